from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from abhinaya.models.errors import DamagedFileError
from abhinaya.models.tiny.ct2_file import read_tensors


def named(text: str) -> bytes:
    """Return a name as the format has it: its length, its letters, a zero."""
    raw = text.encode() + b"\0"
    return struct.pack("<H", len(raw)) + raw


def variable(name: str, values: np.ndarray, kind: int) -> bytes:
    shape = struct.pack(f"<B{values.ndim}I", values.ndim, *values.shape)
    return named(name) + shape + struct.pack("<BI", kind, values.nbytes) + values.tobytes()


MATRIX = np.arange(6, dtype=np.float16).reshape(2, 3)
BIAS = np.array([-1.5, 2.5], np.float32)
BYTES = np.array([-7, 7, 0], np.int8)


def small_file(path: Path) -> bytes:
    parts = [
        variable("encoder/a/weight", MATRIX, 4),
        variable("decoder/b", BYTES, 1),
        variable("encoder/bias", BIAS, 0),
        variable("encoder/heads", np.array(6, np.int16), 2),
    ]
    head = struct.pack("<I", 6) + named("WhisperSpec") + struct.pack("<II", 3, len(parts))
    whole = head + b"".join(parts) + struct.pack("<I", 0)
    path.write_bytes(whole)
    return whole


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


@pytest.mark.parametrize("kept", [0, 3, 20, 40, 60, 70])
def test_a_file_that_ends_early_says_so(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(small_file(path)[:kept])
    with pytest.raises(DamagedFileError, match=r"model\.bin.*not a CTranslate2 model"):
        read_tensors(path, "encoder/")


@pytest.mark.parametrize("content", [b"<!DOCTYPE html>" * 40, b"\xff" * 200, b"{}" * 100])
def test_a_file_of_another_kind_says_so(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match="not a CTranslate2 model"):
        read_tensors(path, "encoder/")
