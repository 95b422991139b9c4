"""Runs a module of ours in a process of its own, with a time limit, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from abhinaya.stream.settings.environment import PROFILE, is_setting

OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
"""A check looks; it does not download unless it is told to."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a child ended."""

    code: int | None
    """Exit code; None if it took too long."""
    output: bytes
    errors: str


def run_module(
    module: str, arguments: Sequence[str], given: bytes, timeout_s: float, download: bool
) -> Done:
    """Run `python -m module` without the settings of the environment: what is given holds them."""
    environment = {k: v for k, v in os.environ.items() if not (is_setting(k) or k == PROFILE)}
    process = subprocess.Popen(  # noqa: S603 - our own modules
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment | ({} if download else OFFLINE),
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(given, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return Done(None, b"", "")
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return Done(process.returncode, output, errors.decode("utf-8", "replace"))


def last_line(text: str) -> str:
    """Give the last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
