"""`abhinaya data transcribe`: nothing is done twice, whatever ends a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from trainer_fakes import write_wav

from abhinaya.bench.demo import CALL
from abhinaya.models.base import FloatArray
from abhinaya.train.data.cli import main
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.manifest import Manifest, read_manifest, write_manifest
from abhinaya.train.data.transcribe import transcribe_manifest
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


def listener(log: list[float], dies_at: int = 99) -> Callable[[FloatArray], str]:
    """Return who writes down how long each clip is, and is killed in the middle."""

    def words(samples: FloatArray) -> str:
        log.append(len(samples) / 16_000)
        if len(log) == dies_at:
            raise KeyboardInterrupt
        return f"said {log[-1]:g}"

    return words


def test_clips_without_a_transcript_get_one_and_the_others_stay(corpus: Manifest) -> None:
    out, log, shown = corpus.root / "out.jsonl", list[float](), list[tuple[int, int]]()
    outcome = transcribe_manifest(
        corpus, out, listener(log), FAKE, progress=lambda done, of: shown.append((done, of))
    )
    found = read_manifest(out).clips
    assert [clip.id for clip in found] == [clip.id for clip in corpus.clips]
    assert [clip.transcript for clip in found] == [
        "said 1", "said 2.5", "as written", "no audio", "", "said 0.5",
    ]  # fmt: skip
    assert (found[0].transcript_source, found[2]) == ("asr", corpus.clips[2])
    assert log == [1.0, 2.5, 0.5]
    assert (outcome.transcribed, outcome.kept, outcome.failed) == (3, 3, {})
    assert shown == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert not list(corpus.root.glob("*.journal"))
    log.clear()
    transcribe_manifest(corpus, out, listener(log), FAKE, replace_gold=True)
    assert log == [1.0, 2.5, 2.0, 3.0, 0.5]


def test_a_run_that_breaks_off_goes_on_after_its_last_whole_line(corpus: Manifest) -> None:
    out, log = corpus.root / "out.jsonl", list[float]()
    with pytest.raises(KeyboardInterrupt):
        transcribe_manifest(corpus, out, listener(log, dies_at=3), FAKE)
    assert not out.exists()
    with pytest.raises(DataError, match="other settings"):
        transcribe_manifest(corpus, out, listener(log), {"model": "another"})
    journal = corpus.root / "out.jsonl.journal"
    journal.write_bytes(journal.read_bytes()[:-4])  # the line of b is cut short
    log.clear()
    transcribe_manifest(corpus, out, listener(log), FAKE)
    assert log == [2.5, 0.5]
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
    assert log == [1.0, 0.5]  # the second run had nothing left to do


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
    command = ["transcribe", str(tmp_path / "in.jsonl"), "--out", str(out)]
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
    for wrong, message in (
        (["--set", "asr.model=nobody"], "unknown transcriber"),
        (["--set", "vote.rule=x"], "asr.options.KEY"),
        (["--profile", str(tmp_path / "none.toml")], "no such file"),
    ):
        assert main([*command, *wrong]) == 1
        error = capfd.readouterr().err
        assert message in error
        assert error.count("\n") == 1
