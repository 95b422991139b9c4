"""The lab of a test, and the table of what was measured, which the end of a run prints."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.figures import table
from cluster.lab import Lab, skip_without_namespaces


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Return a lab without machines."""
    skip_without_namespaces()
    folder = Path(tempfile.mkdtemp(prefix="lab-", dir="/tmp"))
    with Lab(folder) as lab:
        yield lab
    shutil.rmtree(folder)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    if lines := table():
        terminalreporter.section(f"several machines, on {os.cpu_count()} cores")
        terminalreporter.line("\n".join(lines))
