"""`abhinaya data transcribe`: nothing is done twice, whatever ends a run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from abhinaya.bench.demo import CALL
from abhinaya.train.data.cli import main
from abhinaya.train.data.clips import Clip, DataError
from abhinaya.train.data.manifest import Manifest, read_manifest, write_manifest
from abhinaya.train.data.transcribe import transcribe_manifest

TRANSCRIBER = """
import json, pathlib, sys, time
asked = [json.loads(line) for line in open(sys.argv[sys.argv.index("--requests") + 1])]
print(json.dumps({"type": "ready", "model": "fake"}), flush=True)
for one in asked:
    with open("LOG", "a") as log:
        log.write(one["id"] + "\\n")
    if one["id"] in {BAD}:
        line = {"type": "error", "id": one["id"], "reason": "is no audio"}
    else:
        line = {"type": "transcript", "id": one["id"], "text": f"said {one.get('start_s', 0)}"}
    print(json.dumps(line), flush=True)
    if one["id"] == "DIES":
        print("out of memory", file=sys.stderr)
        sys.exit(6)
    time.sleep(PAUSE)
"""


def program(
    folder: Path, bad: tuple[str, ...] = (), dies: str = "-", pause: float = 0.0
) -> list[str]:
    script = TRANSCRIBER.replace("LOG", str(folder / "log")).replace("{BAD}", repr(set(bad)))
    path = folder / "transcriber.py"
    path.write_text(script.replace("DIES", dies).replace("PAUSE", str(pause)))
    return [sys.executable, str(path)]


def asked(folder: Path) -> list[str]:
    return (folder / "log").read_text().split()


def corpus(folder: Path) -> Manifest:
    return Manifest(
        folder,
        (
            Clip("a", "x", path="a.wav"),
            Clip("b", "x", path="long.wav", start_s=3.5, end_s=6.0),
            Clip("gold", "x", path="g.wav", transcript="as written", transcript_source="gold"),
            Clip("text", "x", transcript="no audio", kind="text"),
            Clip("silent", "x", path="s.wav", transcript_source="asr"),
            Clip("c", "x", path="c.wav"),
        ),
    )


def test_clips_without_a_transcript_get_one_and_the_others_stay(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    told: list[tuple[int, int]] = []
    outcome = transcribe_manifest(
        corpus(tmp_path),
        out,
        progress=lambda done, of: told.append((done, of)),
        program=program(tmp_path),
    )
    clips = {clip.id: clip for clip in read_manifest(out).clips}
    assert [clip.id for clip in read_manifest(out).clips] == [c.id for c in corpus(tmp_path).clips]
    assert (clips["a"].transcript, clips["a"].transcript_source) == ("said 0", "asr")
    assert clips["b"].transcript == "said 3.5"
    assert clips["gold"] == corpus(tmp_path).clips[2]
    assert clips["text"].transcript == "no audio"
    assert clips["silent"].transcript == ""  # was heard before: there are no words in it
    assert asked(tmp_path) == ["a", "b", "c"]
    assert (outcome.transcribed, outcome.kept, outcome.failed) == (3, 3, {})
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert not list(tmp_path.glob("*.journal"))


def test_gold_transcripts_are_replaced_only_when_asked(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    transcribe_manifest(corpus(tmp_path), out, replace_gold=True, program=program(tmp_path))
    assert asked(tmp_path) == ["a", "b", "gold", "silent", "c"]


def test_a_transcriber_that_breaks_off_costs_one_clip_at_most(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with pytest.raises(DataError, match=r"after 2 of 3 clips: out of memory; start again"):
        transcribe_manifest(corpus(tmp_path), out, program=program(tmp_path, dies="b"))
    assert not out.exists()
    transcribe_manifest(corpus(tmp_path), out, program=program(tmp_path))
    assert asked(tmp_path) == ["a", "b", "c"]
    assert all(c.transcript for c in read_manifest(out).clips if c.id in "abc")


def test_a_line_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with pytest.raises(DataError):
        transcribe_manifest(corpus(tmp_path), out, program=program(tmp_path, dies="b"))
    journal = tmp_path / "out.jsonl.journal"
    journal.write_bytes(journal.read_bytes()[:-4])
    transcribe_manifest(corpus(tmp_path), out, program=program(tmp_path))
    assert asked(tmp_path) == ["a", "b", "b", "c"]


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    command = program(tmp_path, pause=0.3)
    write_manifest(tmp_path / "in.jsonl", corpus(tmp_path))
    script = (
        "from pathlib import Path\n"
        "from abhinaya.train.data.manifest import read_manifest\n"
        "from abhinaya.train.data.transcribe import transcribe_manifest\n"
        f"transcribe_manifest(read_manifest(Path({str(tmp_path / 'in.jsonl')!r})), "
        f"Path({str(tmp_path / 'out.jsonl')!r}), program={command!r})\n"
    )
    run = subprocess.Popen([sys.executable, "-c", script])
    journal = tmp_path / "out.jsonl.journal"
    deadline = time.monotonic() + 60
    while not journal.exists() or journal.read_bytes().count(b"\n") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    time.sleep(1)  # its transcriber notices that nobody reads
    whole = journal.read_bytes().count(b"\n") - 1
    (tmp_path / "log").unlink()
    transcribe_manifest(corpus(tmp_path), tmp_path / "out.jsonl", program=program(tmp_path))
    assert asked(tmp_path) == ["a", "b", "c"][whole:]


def test_another_line_up_does_not_go_on_with_what_one_has_heard(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with pytest.raises(DataError):
        transcribe_manifest(corpus(tmp_path), out, program=program(tmp_path, dies="b"))
    with pytest.raises(DataError, match="other settings"):
        transcribe_manifest(corpus(tmp_path), out, ["--profile=open"], program=program(tmp_path))


def test_clips_that_cannot_be_read_are_named_and_stop_the_run_above_a_share(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with pytest.raises(DataError, match=r"1 of 3 clips.*b: is no audio.*--max-missing"):
        transcribe_manifest(corpus(tmp_path), out, program=program(tmp_path, bad=("b",)))
    outcome = transcribe_manifest(
        corpus(tmp_path), out, max_failed=0.5, program=program(tmp_path, bad=("b",))
    )
    assert outcome.failed == {"b": "is no audio"}
    assert asked(tmp_path) == ["a", "b", "c"]  # the second run had nothing left to do


@pytest.mark.slow
@pytest.mark.processes
def test_the_monitors_transcriber_fills_a_manifest(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    np.savetxt(tmp_path / "no.wav", np.zeros(9))
    manifest = Manifest(
        CALL.parent,
        (
            Clip("whole", "demo", path=CALL.name),
            Clip("part", "demo", path=CALL.name, start_s=4.0, end_s=9.0),
        ),
    )
    write_manifest(tmp_path / "in.jsonl", manifest)
    out = tmp_path / "out.jsonl"
    assert main(["transcribe", str(tmp_path / "in.jsonl"), "--out", str(out)]) == 0
    assert "2 transcribed" in capfd.readouterr().out
    whole, part = read_manifest(out).clips
    assert "furious" in whole.transcript
    assert 0 < len(part.transcript) < len(whole.transcript)
    bad = Manifest(tmp_path, (Clip("bad", "demo", path="no.wav"),))
    write_manifest(tmp_path / "bad.jsonl", bad)
    assert main(["transcribe", str(tmp_path / "bad.jsonl"), "--out", str(out)]) == 1
    assert "is text, not audio" in capfd.readouterr().err
    unknown = ["transcribe", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "n.jsonl")]
    assert main([*unknown, "--set", "asr.model=nobody"]) == 1
    error = capfd.readouterr().err
    assert "unknown transcriber" in error
    assert "Traceback" not in error
