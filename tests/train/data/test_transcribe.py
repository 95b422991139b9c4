"""`abhinaya data transcribe`: nothing is done twice, whatever ends a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trainer_fakes import write_wav

from abhinaya.bench.demo import CALL
from abhinaya.models.asr import Hearing, Transcription
from abhinaya.models.asr.clips import words_of
from abhinaya.models.base import FloatArray
from abhinaya.train.data.cli import main
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.manifest import Manifest, read_manifest, write_manifest
from abhinaya.train.data.transcribe import Words, transcribe_manifest
from abhinaya.train.errors import DataError

FAKE = {"model": "fake"}
SECONDS = {"a": 1.0, "long": 6.0, "g": 2.0, "s": 3.0, "c": 0.5}


@pytest.fixture
def corpus(tmp_path: Path) -> Manifest:
    for name, seconds in SECONDS.items():
        write_wav(tmp_path / f"{name}.wav", np.zeros(round(16_000 * seconds)))
    return Manifest(
        tmp_path,
        (
            Clip("a", "x", path="a.wav"),
            Clip("b", "x", path="long.wav", start_s=3.5, end_s=6.0),
            Clip("gold", "x", path="g.wav", transcript="as written", transcript_source="gold"),
            Clip("text", "x", transcript="no audio", kind="text"),
            Clip("silent", "x", path="s.wav", transcript_source="asr"),
            Clip("c", "x", path="c.wav"),
        ),
    )


def listener(log: list[float], dies_at: int = 99) -> Words:
    """Return who writes down how long each clip is, and is killed in the middle."""

    def words(clips: Sequence[FloatArray]) -> list[str]:
        log.extend(len(samples) / 16_000 for samples in clips)
        if len(log) >= dies_at:
            raise KeyboardInterrupt
        return [f"said {len(samples) / 16_000:g}" for samples in clips]

    return words


def test_clips_without_a_transcript_get_one_and_the_others_stay(corpus: Manifest) -> None:
    out, log, shown = corpus.root / "out.jsonl", list[float](), list[tuple[int, int]]()
    outcome = transcribe_manifest(
        corpus, out, listener(log), FAKE, progress=lambda *of: shown.append(of), batch=2
    )
    found = read_manifest(out).clips
    assert [clip.id for clip in found] == [clip.id for clip in corpus.clips]
    assert [clip.transcript for clip in found] == [
        "said 1", "said 2.5", "as written", "no audio", "", "said 0.5",
    ]  # fmt: skip
    assert (found[0].transcript_source, found[2]) == ("asr", corpus.clips[2])
    assert log == [0.5, 1.0, 2.5]  # clips of similar length share a call
    assert (outcome.transcribed, outcome.kept, outcome.failed) == (3, 3, {})
    assert shown == [(0, 3), (2, 3), (3, 3)]
    assert not list(corpus.root.glob("*.journal"))
    log.clear()
    transcribe_manifest(corpus, out, listener(log), FAKE, replace_gold=True)
    assert log == [0.5, 1.0, 2.0, 2.5, 3.0]


def test_a_run_that_breaks_off_goes_on_after_its_last_whole_line(corpus: Manifest) -> None:
    out, log = corpus.root / "out.jsonl", list[float]()
    with pytest.raises(KeyboardInterrupt):
        transcribe_manifest(corpus, out, listener(log, dies_at=3), FAKE, batch=1)
    assert not out.exists()
    with pytest.raises(DataError, match="other settings"):
        transcribe_manifest(corpus, out, listener(log), {"model": "another"})
    journal = corpus.root / "out.jsonl.journal"
    journal.write_bytes(journal.read_bytes()[:-4])  # the line of a is cut short
    log.clear()
    transcribe_manifest(corpus, out, listener(log), FAKE)
    assert log == [1.0, 2.5]
    assert all(c.transcript for c in read_manifest(out).clips if c.id in "abc")


def test_clips_that_cannot_be_read_are_named_and_stop_the_run_above_a_share(
    corpus: Manifest,
) -> None:
    out, log = corpus.root / "out.jsonl", list[float]()
    (corpus.root / "long.wav").write_text("not audio")
    with pytest.raises(DataError, match=r"1 of 3 clips.*b: .*cannot be read as audio.*--max-miss"):
        transcribe_manifest(corpus, out, listener(log), FAKE)
    outcome = transcribe_manifest(corpus, out, listener(log), FAKE, max_failed=0.5)
    assert list(outcome.failed) == ["b"]
    assert log == [0.5, 1.0]  # the second run had nothing left to do


class Guarded:
    """A transcriber that says how long each piece is, and of which call it was."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def transcribe(self, batch: Sequence[Hearing]) -> list[Transcription]:
        self.calls.append([len(each.samples) for each in batch])
        return [Transcription(str(len(each.samples))) for each in batch]


def test_clips_are_transcribed_as_a_whole_and_together() -> None:
    heard: Any = Guarded()
    clips = [np.zeros(n, np.float32) for n in (16_000, 400_000, 8_000)]
    assert words_of(heard, False, clips, batch=2) == ["16000", "400000", "8000"]
    assert heard.calls == [[16_000, 400_000], [8_000]]
    assert words_of(heard, True, clips) == ["", "", ""]  # as the monitor: silence is not speech
    assert words_of(heard, False, [np.zeros(500_000, np.float32)]) == [""]  # over 30 s: cut
    assert len(heard.calls) == 2


@pytest.mark.slow
@pytest.mark.processes
def test_whisper_fills_a_manifest_and_goes_on_after_a_kill(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    parts = [(0.0, None), *((start, start + 5.0) for start in (4.0, 0.0, 9.0, 14.0))]
    clips = [
        Clip(f"{i}", "demo", path=CALL.name, start_s=s, end_s=e) for i, (s, e) in enumerate(parts)
    ]
    write_manifest(tmp_path / "in.jsonl", Manifest(CALL.parent, tuple(clips)))
    out, journal = tmp_path / "out.jsonl", tmp_path / "out.jsonl.journal"
    command = ["transcribe", str(tmp_path / "in.jsonl"), "--out", str(out), "--batch", "2"]
    script = f"from abhinaya.train.data.cli import main\nmain({command!r})"
    run = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "COLUMNS": "80"})
    deadline = time.monotonic() + 120
    while not journal.exists() or journal.read_bytes().count(b"\n") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert main(command) == 0
    assert "5 transcribed" in capfd.readouterr().out
    whole, part, *_ = read_manifest(out).clips
    assert "furious" in whole.transcript
    assert 0 < len(part.transcript) < len(whole.transcript)
    together = [clip.transcript for clip in read_manifest(out).clips]
    assert main([*command, "--batch", "1"]) == 0
    assert "clips a second" in capfd.readouterr().out
    assert [clip.transcript for clip in read_manifest(out).clips] == together
    for wrong, message in (
        (["--set", "asr.model=nobody"], "unknown transcriber"),
        (["--set", "vote.rule=x"], "asr.options.KEY"),
        (["--profile", str(tmp_path / "none.toml")], "no such file"),
    ):
        assert main([*command, *wrong]) == 1
        error = capfd.readouterr().err
        assert message in error
        assert error.count("\n") == 1
