from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from abhinaya.bench.demo import CALL
from abhinaya.bench.vad import Recording, cut, find, main, measure, read_rttm
from abhinaya.stream.config import VadConfig
from abhinaya.stream.vad import FRAME_SAMPLES

FRAME_S = FRAME_SAMPLES / 16000
PLAIN = VadConfig(pad_s=0.0, min_silence_s=0.32, brief_silence_s=0.32, min_speech_s=0.096)


def recording(probabilities: list[float], speech: list[bool]) -> Recording:
    """A recording that is loud wherever it may be speech."""
    track = np.array(probabilities, np.float32)
    samples = np.repeat(np.where(track > 0.3, 0.5, 0.0001), FRAME_SAMPLES).astype(np.float32)
    return Recording("x", "planted", samples, np.array(speech), track)


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
    assert (found.pieces, found.audio_s) == (1, 4.0)
    assert found.reference_speech == pytest.approx(0.2)
    assert found.speech_covered == 1.0
    assert found.nonspeech_passed == pytest.approx(80 / 320)
    assert found.mean_piece_s == pytest.approx(1.6)
    assert found.wait_s == pytest.approx(0.32)


def test_missed_speech_is_not_covered() -> None:
    found = find("planted", [recording([0.0] * 100, [True] * 320)], PLAIN)
    assert (found.speech_covered, found.pieces, found.nonspeech_passed) == (0.0, 0, None)


def test_a_cut_in_a_planted_pause_is_told_from_one_in_speech() -> None:
    track = [1.0] * 280 + [0.1] * 6 + [1.0] * 100
    spoken = recording(track, [True] * 896 + [False] * 20 + [True] * 320)
    deep = cut("planted", "deepest pause", [spoken], PLAIN)
    hard = cut("planted", "hard", [spoken], VadConfig(cut_search_s=0.0, pad_s=0.0))
    assert (deep.cuts, deep.in_nonspeech, deep.in_pause, deep.quiet) == (1, 1.0, 1.0, 1.0)
    assert (hard.cuts, hard.in_nonspeech, hard.in_pause, hard.quiet) == (1, 0.0, 0.0, 0.0)
    assert deep.level_db < -40
    assert deep.mean_piece_s == pytest.approx(283 * FRAME_S, abs=FRAME_S)
    assert hard.mean_piece_s == 10.0


def test_turns_are_read_from_rttm(tmp_path: Path) -> None:
    path = tmp_path / "a.rttm"
    path.write_text(
        "SPEAKER a 1 1.5 2.0 <NA> <NA> X <NA> <NA>\n;; a comment\nSPEAKER b 1 0 1 x x Y x\n"
    )
    assert read_rttm([path]) == {"a": [(1.5, 3.5)], "b": [(0.0, 1.0)]}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "calls"
    folder.mkdir()
    shutil.copy(CALL, folder / "call.opus")
    turns = [(0.5, 3.5), (4.2, 9.8)]
    lines = [f"SPEAKER call 1 {start} {end - start} <NA> <NA> x <NA> <NA>" for start, end in turns]
    (folder / "call.rttm").write_text("\n".join(lines))
    return tmp_path


def test_a_folder_is_measured(data: Path) -> None:
    result = measure(data, seconds=10.0)
    assert [row.min_silence_s for row in result.found] == [0.2, 0.4, 0.6]
    assert {row.corpus for row in result.found} == {"calls"}
    assert all(row.speech_covered > 0.9 for row in result.found)
    assert all((row.nonspeech_passed or 0) < 0.3 for row in result.found)


def test_the_command_prints_tables_or_json(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(data), "--seconds", "6"]) == 0
    assert "Speech found" in capsys.readouterr().out
    assert main(["--data", str(data), "--seconds", "6", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["machine"]["cores"] >= 1
    assert result["found"][0]["recordings"] == 1
    assert main(["--data", str(data / "nothing")]) == 3
    assert "holds no audio with RTTM" in capsys.readouterr().err
