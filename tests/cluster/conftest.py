"""The lab of a test, and the table of what was measured, which the end of a run prints."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from cluster.figures import table
from cluster.lab import Lab, new_lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Return a lab without machines."""
    with new_lab() as lab:
        yield lab


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    if lines := table():
        terminalreporter.section(f"several machines, on {os.cpu_count()} cores")
        terminalreporter.line("\n".join(lines))
