"""Compares files with weights with their SHA-256, so that a damaged file is never used.

The expected sum is a line of `SHA256SUMS` in the folder of the file (the format of `sha256sum`), or
the name of a file in the Hugging Face cache: the Hub names large files by their SHA-256.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import Final

from abhinaya.models.errors import DamagedFileError

SUMS: Final = "SHA256SUMS"
_LINE: Final = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def check(path: Path, remedy: str = "download it again, or write it again") -> bool:
    """Return whether the sum of a file is known; it is then the right one.

    Raises:
        DamagedFileError: the file has another sum.

    """
    expected = _expected(path)
    if expected is None:
        return False
    found = sum_of(path)
    if found != expected:
        reason = f"it is damaged or changed: its SHA-256 begins with {found[:12]}, not with "
        raise DamagedFileError(path, reason + expected[:12], remedy)
    return True


def record(path: Path) -> None:
    """Write the sum of a file into `SHA256SUMS`, in place of an earlier one."""
    sums = path.with_name(SUMS)
    known = {**_read(sums), path.name: sum_of(path)}
    part = sums.with_suffix(".part")
    part.write_text("".join(f"{known[name]}  {name}\n" for name in sorted(known)), "utf-8")
    part.replace(sums)


def sum_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; an unchanged file is read only once."""
    status = path.stat()
    return _sum_of(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _sum_of(path: Path, _size: int, _mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _expected(path: Path) -> str | None:
    if expected := _read(path.with_name(SUMS)).get(path.name):
        return expected
    blob = path.resolve()
    named = blob.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", blob.name)
    return blob.name if named else None


def _read(sums: Path) -> dict[str, str]:
    try:
        lines = sums.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    return {found[2]: found[1] for line in lines if (found := _LINE.fullmatch(line))}
