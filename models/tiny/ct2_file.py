"""Reads the tensors of a CTranslate2 model file.

The format (CTranslate2 `WhisperSpec`, file version 6): a version, the name and revision of the
specification, then each variable as its name, shape, type and bytes, then aliases.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from abhinaya.models.errors import DamagedFileError

TYPES: Final[Mapping[int, npt.DTypeLike]] = {
    0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16,
}  # fmt: skip
REMEDY: Final = "install the Whisper model again, or give another folder as the model"


def read_tensors(path: Path, prefix: str) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors with names that begin with `prefix`, by name without the prefix.

    Raises:
        DamagedFileError: the file is not a CTranslate2 model, or is cut off.

    """
    found: dict[str, npt.NDArray[Any]] = {}
    try:
        with path.open("rb") as file:
            _number(file, "I")
            _name(file)
            _number(file, "I")
            for _ in range(_number(file, "I")):
                name = _name(file)
                shape = tuple(_number(file, "I") for _ in range(_number(file, "B")))
                kind, size = _number(file, "B"), _number(file, "I")
                if name.startswith(prefix):
                    data = np.frombuffer(file.read(size), TYPES[kind])
                    found[name.removeprefix(prefix)] = data.reshape(shape)
                else:
                    file.seek(size, 1)
    except (struct.error, KeyError, ValueError, UnicodeDecodeError) as error:
        raise DamagedFileError(path, f"not a CTranslate2 model: {error}", REMEDY) from error
    return found


def _number(file: BufferedReader, kind: str) -> int:
    layout = struct.Struct(f"<{kind}")
    (value,) = layout.unpack(file.read(layout.size))
    return int(value)


def _name(file: BufferedReader) -> str:
    return file.read(_number(file, "H"))[:-1].decode()
