"""The private directory of a run, for sockets and logs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def run_directory() -> Iterator[Path]:
    """Make a private directory for sockets and logs, and remove it at the end."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    usable = base if base and os.access(base, os.W_OK) else None
    directory = Path(tempfile.mkdtemp(prefix="abhinaya-", dir=usable))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def keep_logs(directory: Path) -> Path | None:
    """Copy the logs of a run to a directory that is kept; return it, None if all are empty."""
    logs = [path for path in directory.glob("*.log") if path.stat().st_size]
    if not logs:
        return None
    kept = Path(tempfile.mkdtemp(prefix="abhinaya-logs-"))
    for path in logs:
        shutil.copy(path, kept)
    return kept
