"""What a check finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from abhinaya.stream.errors import AbhinayaError

State = Literal["ok", "warning", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    """What was looked at, in a word or two."""
    state: State
    """A fault keeps the profile from running; a warning does not."""
    detail: str
    remedy: str = ""
    """What to do about it; every fault has one."""


Check = Callable[[], Iterable[Finding]]


def found(subject: str, check: Check) -> Iterator[Finding]:
    """Yield what a check finds; what it raises is a fault of its subject."""
    try:
        yield from check()
    except AbhinayaError as error:
        yield of_error(subject, error)
    except Exception as error:  # a check that breaks must not hide what the others find
        detail = f"could not be looked at: {type(error).__name__}: {error}"
        yield Finding(subject, "fault", detail, "please report it")


def of_error(subject: str, error: AbhinayaError, state: State = "fault") -> Finding:
    """Give an error of ours as a finding."""
    remedy = error.remedy or "mend that, and ask again"
    return Finding(subject, state, f"{error.subject}: {error.reason}", remedy)
