"""Files in CTranslate2's format, written by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

KINDS = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}


def named(text: str) -> bytes:
    """Return a name as the format has it: its length, its letters, a zero."""
    raw = text.encode() + b"\0"
    return struct.pack("<H", len(raw)) + raw


def variable(name: str, values: np.ndarray) -> bytes:
    shape = struct.pack(f"<B{values.ndim}I", values.ndim, *values.shape)
    size = struct.pack("<BI", KINDS[values.dtype.name], values.nbytes)
    return named(name) + shape + size + values.tobytes()


def write_model(path: Path, variables: Sequence[tuple[str, np.ndarray]]) -> bytes:
    """Write variables in this order, and return what was written."""
    head = struct.pack("<I", 6) + named("WhisperSpec") + struct.pack("<II", 3, len(variables))
    parts = [variable(name, values) for name, values in variables]
    whole = head + b"".join(parts) + struct.pack("<I", 0)
    path.write_bytes(whole)
    return whole
