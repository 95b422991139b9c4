from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from trainer_fakes import write_wav

from abhinaya.train.data.clips import DataError
from abhinaya.train.data.readers import read_readers


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
    assert {clip.label for clip in train + dev} == {"neutral"}
    for path in folder.glob("0-*.opus"):  # whoever else is there decides nothing
        path.unlink()
    again = {clip.speaker for clip in read_readers(tmp_path, "train")}
    assert again == of_train - {"neutral_voices_0"}


def test_without_readers_the_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neutral_voices: holds no voices"):
        read_readers(tmp_path, "train")
