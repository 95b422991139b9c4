"""Ray's token: a file on every machine of the cluster. Its owner can run code there."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from abhinaya.stream.errors import NetworkError


def check_token(path: Path, make: bool = False) -> bool:
    """Check the file of the token; `make` it if it is missing. Return whether it is new.

    Raises:
        NetworkError: it is missing, empty or open to others.

    """
    try:
        facts = path.stat()
    except FileNotFoundError as error:
        if make:
            _write(path)
            return True
        remedy = "`abhinaya cluster keys` makes it once; copy it here from there"
        raise NetworkError(f"Ray's token {path}", "is missing", remedy) from error
    except OSError as error:
        raise NetworkError(f"Ray's token {path}", f"cannot be read: {error.strerror}") from error
    if facts.st_mode & 0o077:
        raise NetworkError(f"Ray's token {path}", "can be read by others", f"`chmod 600 {path}`")
    if not facts.st_size:
        raise NetworkError(
            f"Ray's token {path}", "is empty", "remove it, and run `abhinaya cluster keys`"
        )
    return False


def _write(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
    except OSError as error:
        reason = f"cannot be written: {error.strerror}"
        raise NetworkError(f"Ray's token {path}", reason) from error
