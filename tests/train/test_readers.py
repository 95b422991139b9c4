from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from trainer_fakes import write_wav

from abhinaya.train.data.audio import read_clip
from abhinaya.train.data.clips import DataError
from abhinaya.train.data.readers import PIECE_S, pieces_of, read_readers
from abhinaya.train.splits import part_of

RATE = 16_000


def test_every_reader_is_on_one_side_for_good(tmp_path: Path) -> None:
    folder = tmp_path / "neutral_voices"
    readers = [str(number) for number in range(40)]
    for reader in readers:
        for take in ("a", "b"):
            write_wav(folder / f"{reader}-{take}.opus", np.zeros(800))
    train, dev = (read_readers(tmp_path, side) for side in ("train", "dev"))
    of_train, of_dev = ({clip.speaker for clip in clips} for clips in (train, dev))
    assert not of_train & of_dev
    assert len(of_train | of_dev) == 40
    assert len(train) + len(dev) == 80
    assert {part_of(clip) for clip in train} == {"fit"}
    assert {part_of(clip) for clip in dev} == {"dev"}
    assert {clip.label for clip in train + dev} == {"neutral"}
    for path in folder.glob("0-*.opus"):  # whoever else is there decides nothing
        path.unlink()
    again = {clip.speaker for clip in read_readers(tmp_path, "train")}
    assert again == of_train - {"neutral_voices_0"}


def test_a_reading_is_cut_into_segments_without_a_hole(tmp_path: Path) -> None:
    ramp = np.linspace(0.0, 0.5, 21 * RATE)
    write_wav(tmp_path / "neutral_voices" / "7-long.opus", ramp)
    (clip,) = read_readers(tmp_path, "train")
    pieces = pieces_of([clip], seed=3)
    assert pieces == pieces_of([clip], seed=3)
    assert pieces != pieces_of([clip], seed=4)
    assert len({piece.id for piece in pieces}) == len(pieces)
    heard = [read_clip(Path(), piece) for piece in pieces]
    assert all(len(part) <= PIECE_S[1] * RATE + 1 for part in heard)
    assert sum(map(len, heard)) > (21.0 - PIECE_S[0]) * RATE
    whole = np.concatenate(heard)
    np.testing.assert_allclose(whole, ramp[: len(whole)], atol=1e-3)


def test_a_short_reading_stays_whole(tmp_path: Path) -> None:
    write_wav(tmp_path / "neutral_voices" / "7-short.opus", np.zeros(RATE))
    clips = read_readers(tmp_path, "train")
    assert pieces_of(clips, seed=0) == clips


def test_without_readers_the_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neutral_voices: holds no voices"):
        read_readers(tmp_path, "train")
