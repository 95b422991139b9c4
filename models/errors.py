"""The root of all errors, and what can go wrong with a model.

    AbhinayaError                   subject, reason, remedy; its branches are in `stream/errors.py`
    └── ModelError                  a model cannot be loaded or run
        ├── UnknownModelError       no model has this name
        ├── MissingFileError        a file or a model name that is missing, or not allowed
        ├── DamagedFileError        not the file it should be: truncated, a git-lfs pointer, code
        ├── WriteError              a file that cannot be written
        ├── KeysError               the tensors do not fit the architecture: keys, shapes, NaN
        ├── LabelsError             label names that do not map to the eight emotions
        ├── OptionsError            an option that the model does not have, or a wrong value
        └── RunError                it is loaded but cannot answer: no memory, scores not finite

Foreign errors (torch, safetensors, transformers, the Hub) become one of these where they are met,
with the cause chained.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Final


class AbhinayaError(Exception):
    """What was wrong, with which value, and what to do.

    Args:
        subject: the input at fault, as the user named it: a path, a flag, a device; without a
            reason, the whole message.
        reason: what is wrong with it.
        remedy: what to do about it.

    """

    exit_code: ClassVar[int] = 1

    def __init__(self, subject: object, reason: str = "", remedy: str = "") -> None:
        self.subject = str(subject)
        self.reason = reason
        self.remedy = remedy
        super().__init__(subject, reason, remedy)

    def __str__(self) -> str:
        said = f"{self.subject}: {self.reason}" if self.reason else self.subject
        # a remedy goes on with the sentence
        return f"{said}; {self.remedy[0].lower()}{self.remedy[1:]}" if self.remedy else said

    def __reduce__(self) -> tuple[type[AbhinayaError], tuple[str, str, str]]:
        return type(self), (self.subject, self.reason, self.remedy)


class ModelError(AbhinayaError):
    """A model cannot be loaded or run."""

    exit_code = 6


class UnknownModelError(ModelError):
    """No model has this name; the message suggests the nearest one."""


class MissingFileError(ModelError):
    """A checkpoint, folder or model name cannot be found or may not be read."""


class MissingPackageError(ModelError):
    """A Python package is not installed, which only some models and commands need."""


class DamagedFileError(ModelError):
    """The file is there but is not a checkpoint that can be trusted."""


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
    """Join names for a message; beyond `limit` only say how many more there are."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:limit])
    return shown if len(ordered) <= limit else f"{shown} and {len(ordered) - limit} more"


def near_miss(given: str, known: Iterable[str]) -> str:
    """Return what was probably meant, or else what there is: a remedy."""
    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"


LFS_POINTER: Final = b"version https://git-lfs"
"""How a damaged file begins that git-lfs has not fetched."""

EXTRA_OF: Final = {
    "accelerate": "train",
    "bitsandbytes": "quantize",
    "onnx": "train",
    "onnxscript": "train",
    "peft": "torch",
    "psutil": "bench",
    "scipy": "train",
    "sklearn": "train",
    "tensorboard": "tensorboard",
    "torch": "torch",
    "torchaudio": "torch",
    "transformers": "torch",
}
"""Package -> the extra that brings it, as `pyproject.toml` declares it."""


@contextmanager
def naming_the_extra(subject: str) -> Iterator[None]:
    """Say of a package that is not installed which extra brings it.

    Raises:
        MissingPackageError: the body imports a package of `EXTRA_OF`, and it is not installed.

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
            f"Install it with: pip install 'abhinaya[{EXTRA_OF[package]}]'",
        ) from error
