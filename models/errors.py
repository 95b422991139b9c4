"""The root of all errors, and the errors of models.

    AbhinayaError                   subject, reason, remedy; other branches: `stream/errors.py`
    └── ModelError                  a model cannot be loaded or run
        ├── UnknownModelError       no model has this name
        ├── MissingFileError        a file or model is missing, or access is denied
        ├── MissingPackageError     a Python package is not installed
        ├── DamagedFileError        a file is truncated, a git-lfs pointer, or contains code
        ├── WriteError              a file cannot be written
        ├── KeysError               the tensors do not fit the architecture: keys, shapes, NaN
        ├── LabelsError             label names do not map to the eight emotions
        ├── OptionsError            an option is unknown, or its value is wrong
        └── RunError                a loaded model fails: no memory, scores not finite

The caller of a library (torch, safetensors, transformers, the Hub) turns its errors into these and
chains the cause.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Final


class AbhinayaError(Exception):
    """An error with its subject, reason and remedy.

    Args:
        subject: the faulty input, as the user named it: a path, a flag, a device; without a
            reason, the whole message.
        reason: what is wrong with the subject.
        remedy: what the user can do; it continues the sentence, so it begins in lower case.

    """

    exit_code: ClassVar[int] = 1

    def __init__(self, subject: object, reason: str = "", remedy: str = "") -> None:
        self.subject = str(subject)
        self.reason = reason
        self.remedy = remedy
        super().__init__(subject, reason, remedy)

    def __str__(self) -> str:
        fault = f"{self.subject}: {self.reason}" if self.reason else self.subject
        return f"{fault}; {self.remedy}" if self.remedy else fault

    def __reduce__(self) -> tuple[type[AbhinayaError], tuple[str, str, str]]:
        return type(self), (self.subject, self.reason, self.remedy)


class ModelError(AbhinayaError):
    """A model cannot be loaded or run."""

    exit_code = 6


class UnknownModelError(ModelError):
    """No model has this name; the message suggests the nearest name."""


class MissingFileError(ModelError):
    """A checkpoint, folder or model name cannot be found or may not be read."""


class MissingPackageError(ModelError):
    """An optional Python package is not installed."""


class DamagedFileError(ModelError):
    """A file exists but is damaged, contains code, or is of another kind."""


class WriteError(ModelError):
    """A file cannot be written: no folder, no permission, no room."""


class KeysError(ModelError):
    """Tensors of a checkpoint and of the architecture disagree."""


class LabelsError(ModelError):
    """Label names do not map to the eight emotions."""


class OptionsError(ModelError):
    """An option is unknown or has a value that cannot be used."""


class RunError(ModelError):
    """A loaded model failed on a batch."""


def listed(names: Iterable[str], limit: int = 8) -> str:
    """Join up to `limit` names for a message, followed by the number of the others."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:limit])
    return shown if len(ordered) <= limit else f"{shown} and {len(ordered) - limit} more"


def near_miss(given: str, known: Iterable[str], otherwise: str = "", likeness: float = 0.6) -> str:
    """Return a remedy: the nearest known name, else `otherwise` or the list of known names."""
    names = {name.casefold(): name for name in sorted(known)}
    close = difflib.get_close_matches(given.casefold(), names, 1, likeness)
    if close:
        return f"did you mean {names[close[0]]!r}?"
    return otherwise or f"known: {', '.join(names.values()) or 'none'}"


LFS_POINTER: Final = b"version https://git-lfs"
"""First bytes of a file that git-lfs has not fetched."""

EXTRA_OF: Final = {
    "accelerate": "train",
    "bitsandbytes": "quantize",
    "onnx": "train",
    "onnxscript": "train",
    "opentelemetry": "otel",
    "peft": "torch",
    "psutil": "bench",
    "scipy": "train",
    "sklearn": "train",
    "starlette": "web",
    "torch": "torch",
    "torchaudio": "torch",
    "transformers": "torch",
    "uvicorn": "web",
}
"""Package -> the extra in `pyproject.toml` that installs it."""


@contextmanager
def naming_the_extra(subject: str) -> Iterator[None]:
    """Raise an error that names the extra for a missing package.

    Raises:
        MissingPackageError: the body imports a package of `EXTRA_OF` that is not installed.

    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA_OF:
            raise
        raise MissingPackageError(
            subject,
            f"needs the package {package}, which is not installed",
            f"install it with: pip install 'abhinaya[{EXTRA_OF[package]}]'",
        ) from error
