from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from abhinaya.bench.demo import CALL
from abhinaya.bench.vad import Recording, find, main, read_rttm
from abhinaya.stream.errors import SourceError
from abhinaya.stream.front.vad import FRAME_SAMPLES
from abhinaya.stream.settings.config import VadConfig

PLAIN = VadConfig(pad_s=0.0, min_silence_s=0.32, brief_silence_s=0.32, min_speech_s=0.096)


def recording(probabilities: list[float], speech: list[bool]) -> Recording:
    """A recording that is loud wherever it may be speech."""
    track = np.array(probabilities, np.float32)
    samples = np.repeat(np.where(track > 0.3, 0.5, 0.0001), FRAME_SAMPLES).astype(np.float32)
    return Recording("planted", samples.reshape(-1, FRAME_SAMPLES), track, np.array(speech))


def test_planted_shares_come_back() -> None:
    # 25 frames are 0.8 s: speech in frames 25 to 75, of which the reference knows the first half.
    found = find(
        "planted",
        [
            recording(
                [0.0] * 25 + [1.0] * 50 + [0.0] * 50, [False] * 80 + [True] * 80 + [False] * 240
            )
        ],
        PLAIN,
    )
    assert (found["pieces"], found["audio_s"]) == (1, 4.0)
    assert found["reference_speech"] == pytest.approx(0.2)
    assert found["speech_covered"] == 1.0
    assert found["nonspeech_passed"] == pytest.approx(80 / 320)
    assert found["mean_piece_s"] == pytest.approx(1.6)


def test_missed_speech_is_not_covered() -> None:
    found = find("planted", [recording([0.0] * 100, [True] * 320)], PLAIN)
    assert (found["speech_covered"], found["pieces"], found["nonspeech_passed"]) == (0.0, 0, None)


def test_turns_are_read_from_rttm(tmp_path: Path) -> None:
    path = tmp_path / "a.rttm"
    path.write_text(
        "SPEAKER a 1 1.5 2.0 <NA> <NA> X <NA> <NA>\n;; a comment\nSPEAKER b 1 0 1 x x Y x\n"
    )
    assert read_rttm([path]) == {"a": [(1.5, 3.5)], "b": [(0.0, 1.0)]}
    assert read_rttm([path], key=7) == {"X": [(1.5, 3.5)], "Y": [(0.0, 1.0)]}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "calls"
    folder.mkdir()
    shutil.copy(CALL, folder / "call.opus")
    turns = [(0.5, 3.5), (4.2, 9.8)]
    lines = [f"SPEAKER call 1 {start} {end - start} <NA> <NA> x <NA> <NA>" for start, end in turns]
    (folder / "call.rttm").write_text("\n".join(lines))
    return tmp_path


def test_the_command_measures_a_folder(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "vad.json"
    assert main(["--data", str(data), "--seconds", "10", "--json", str(out)]) == 0
    rows = json.loads(out.read_text())["figures"]["rows"]
    assert [row["min_silence_s"] for row in rows] == [0.2, 0.4, 0.6]
    assert {row["corpus"] for row in rows} == {"calls"}
    assert all(row["speech_covered"] > 0.9 for row in rows)
    assert all((row["nonspeech_passed"] or 0) < 0.3 for row in rows)
    with pytest.raises(SourceError, match="holds no audio with RTTM"):
        main(["--data", str(data / "nothing")])
