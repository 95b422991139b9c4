from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ct2_files import write_model

from abhinaya.models.errors import DamagedFileError
from abhinaya.models.tiny.ct2_file import read_tensors

MATRIX = np.arange(6, dtype=np.float16).reshape(2, 3)
BIAS = np.array([-1.5, 2.5], np.float32)
BYTES = np.array([-7, 7, 0], np.int8)


def small_file(path: Path) -> bytes:
    return write_model(
        path,
        [
            ("encoder/a/weight", MATRIX),
            ("decoder/b", BYTES),
            ("encoder/bias", BIAS),
            ("encoder/heads", np.array(6, np.int16)),
        ],
    )


def test_a_file_written_by_hand_is_read(tmp_path: Path) -> None:
    small_file(tmp_path / "model.bin")
    found = read_tensors(tmp_path / "model.bin", "encoder/")
    assert set(found) == {"a/weight", "bias", "heads"}
    np.testing.assert_array_equal(found["a/weight"], MATRIX)
    np.testing.assert_array_equal(found["bias"], BIAS)
    assert found["heads"].shape == ()
    assert found["heads"] == 6
    others = read_tensors(tmp_path / "model.bin", "decoder/")
    np.testing.assert_array_equal(others["b"], BYTES)


def test_a_file_that_ends_early_or_is_of_another_kind_says_so(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    whole = small_file(path)
    early = [whole[:kept] for kept in (0, 3, 20, 40, 60, 70)]
    for content in (*early, b"<!DOCTYPE html>" * 40, b"\xff" * 200, b"{}" * 100):
        path.write_bytes(content)
        with pytest.raises(DamagedFileError, match=r"model\.bin.*not a CTranslate2 model"):
            read_tensors(path, "encoder/")
