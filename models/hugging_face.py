"""Finds and downloads model files (a path, or a name on the Hub); translates the Hub's errors."""

from __future__ import annotations

import json
import logging
import pickle
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import Any, Final

import httpx2
from huggingface_hub import HfApi, constants, is_offline_mode, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from safetensors import SafetensorError

from abhinaya.models import sums
from abhinaya.models.catalogue import is_repository, pinned, unpinned
from abhinaya.models.errors import (
    LFS_POINTER,
    DamagedFileError,
    KeysError,
    MissingFileError,
    ModelError,
    OptionsError,
    WriteError,
)
from abhinaya.models.errors import listed as names

_LOG: Final = logging.getLogger("abhinaya.models")
_TRAINING: Final = "masked_spec_embed"
"""A weight that is used only in training; published speech models may lack it."""
_FOLDERS: Final = "*/*"
"""Files in folders of a repository: other formats and training states."""
_SMALL: Final = ("*.json", "*.txt", "*.model", "README.md")
# Weight files, best first; only the first kind that a repository has is downloaded.
_WEIGHTS: Final = ("*.safetensors", "*.bin", "*.pth", "*.pt")


def locate(name: str, patterns: list[str] | None = None) -> Path:
    """Return the folder or file of a model; download a name on the Hub at its pinned revision.

    Without patterns, the best kind of weights and all small files are downloaded. Files with a
    known SHA-256 (those of the Hub, and those in a `SHA256SUMS`) are compared with it.

    Raises:
        MissingFileError: the model is missing or gated, or the network is down.
        DamagedFileError: a file has another SHA-256.

    """
    path = _found(name, patterns)
    for kind in _WEIGHTS if path.is_dir() else ():
        for file in path.glob(kind):
            sums.check(file)
    return path


def _found(name: str, patterns: list[str] | None) -> Path:
    path = Path(name).expanduser()
    if path.exists():
        return path
    if not is_repository(name):
        remedy = "check the path; a model on the Hub is ORG/NAME"
        raise MissingFileError(name, "it does not exist", remedy)
    if patterns is None:
        folder = pull(name)
    else:
        repository, revision = pinned(name)
        with translated(name):
            found = snapshot_download(repository, revision=revision, allow_patterns=patterns)
        folder = Path(found)
    if unpinned(name):
        # in the Hub's cache, a snapshot is a folder called by its commit
        remedy = f"write {pinned(name)[0]}@{folder.name} to keep this one"
        _LOG.warning("%s: no revision is pinned, so its owner can change it; %s", name, remedy)
    return folder


@contextmanager
def translated(subject: str, *, quiet: bool = True) -> Iterator[None]:
    """Turn errors of transformers and the Hub into a ModelError; `quiet` turns off their output.

    Raises:
        ModelError: the body raised any error but a lack of memory.

    """
    log: Any = sys.modules.get("transformers.utils.logging")  # not imported for a download
    if log:
        verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
        if quiet:
            log.set_verbosity_error()  # require_complete checks what it would report
            log.disable_progress_bar()
    try:
        yield
    except (ModelError, MemoryError):  # registry.load handles MemoryError
        raise
    except ImportError as error:
        raise OptionsError(
            subject, f"a package it needs is not installed ({_first_line(error)})", "install it"
        ) from error
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which registry.load handles
            raise
        raise _refused(subject, error) from error
    finally:
        if log:
            log.set_verbosity(verbosity)
            if bars:
                log.enable_progress_bar()


def _refused(subject: str, error: Exception) -> ModelError:
    """Return the error for files that transformers cannot load."""
    if (pointer := _lfs_pointer(subject)) is not None:
        return DamagedFileError(
            pointer,
            "it is a git-lfs pointer, not the file itself",
            "run git lfs pull in its folder, or download the file",
        )
    if isinstance(error, SafetensorError):
        return DamagedFileError(
            subject, f"a weight file is not whole ({error})", "download it again"
        )
    if isinstance(error, pickle.UnpicklingError):
        return DamagedFileError(
            subject,
            "its weight file is not whole, or holds code, which is never run",
            "use safetensors: abhinaya models convert, or a download that has them",
        )
    if isinstance(error, HFValidationError):
        return MissingFileError(
            subject, "it is neither a path nor a name on the Hub", "check the name"
        )
    # The Hub's HTTP errors and most errors of transformers are OSErrors.
    if isinstance(error, OSError):
        return _unavailable(subject, error)
    return KeysError(
        subject,
        f"transformers cannot build it ({_first_line(error)})",
        "check that config.json and the weights are of one model of the right kind",
    )


def _lfs_pointer(subject: str) -> Path | None:
    folder = Path(subject).expanduser()
    for kind in ("*.safetensors", "*.bin", "*.model", "tokenizer.json"):
        for path in folder.glob(kind) if folder.is_dir() else ():
            with path.open("rb") as file:
                if file.read(len(LFS_POINTER)) == LFS_POINTER:
                    return path
    return None


def _unavailable(subject: str, error: OSError) -> ModelError:
    """Return the error for an unavailable model; the chain of causes holds the reason."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    text = str(error).lower()
    if any(isinstance(e, OSError) and e.errno in (ENOSPC, EDQUOT) for e in chain):
        return WriteError(subject, "the disk is full", "make room, or set HF_HOME to another disk")
    unknown = any(type(e) is RepositoryNotFoundError for e in chain)  # its text mentions gated too
    if any(isinstance(e, GatedRepoError) for e in chain) or ("gated repo" in text and not unknown):
        return MissingFileError(
            subject,
            "it is gated: the Hub gives it only to accounts that accepted its licence",
            "accept it on the model's page, then run hf auth login or set HF_TOKEN",
        )
    if unknown or any(_status(e) in (401, 403) for e in chain):
        return MissingFileError(
            subject,
            "the Hub does not have this model, or shows it only to accounts that may read it",
            "check the name; for a private model run hf auth login or set HF_TOKEN",
        )
    if is_offline_mode():
        return not_here(subject)
    return MissingFileError(
        subject,
        f"it is unavailable ({_first_line(error)})",
        "check the name and the network, or give the path of a local copy",
    )


def _status(error: BaseException) -> int | None:
    """Return the HTTP status of an error, not from its text: a number there may be a port."""
    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def not_here(subject: str) -> MissingFileError:
    """Return the error for a model that is not local while downloads are forbidden."""
    return MissingFileError(
        subject,
        "it is not on this machine, and HF_HUB_OFFLINE forbids to download it",
        "unset HF_HUB_OFFLINE, or give the path of a local copy",
    )


def require_complete(info: Mapping[str, Any], subject: str) -> None:
    """Refuse a model for which transformers made random weights.

    Raises:
        KeysError: a weight is missing or has another shape.

    """
    missing = [str(k) for k in info.get("missing_keys", ()) if not str(k).endswith(_TRAINING)]
    if missing:
        raise KeysError(
            subject,
            f"{len(missing)} weights are missing and would be random: {names(missing)}",
            "use a checkpoint that was trained for this task",
        )
    if wrong := [str(k) for k in info.get("mismatched_keys", ())]:
        raise KeysError(
            subject,
            f"{len(wrong)} weights have another shape than config.json says: {names(wrong)}",
            "correct config.json or use its own weights",
        )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def cached(name: str) -> Path | None:
    """Return the folder of a completely downloaded model, else None."""
    repository, revision = pinned(name)
    for kind in _WEIGHTS:
        try:
            folder = Path(
                snapshot_download(
                    repository,
                    revision=revision,
                    allow_patterns=kind,
                    ignore_patterns=_FOLDERS,
                    local_files_only=True,
                )
            )
        except LocalEntryNotFoundError:  # also raised for an incomplete download
            continue
        if any(folder.glob(kind)) and _has_all_shards(folder):
            return folder
    return None


def _has_all_shards(folder: Path) -> bool:
    indices = folder.glob("*.index.json")
    shards = {s for i in indices for s in json.loads(i.read_text())["weight_map"].values()}
    return all((folder / shard).exists() for shard in shards)


def pull(name: str) -> Path:
    """Download the missing files of a model with progress; return its folder.

    The download resumes after a lost connection; after a restart, complete files are kept. If
    HF_HUB_OFFLINE is set, the network is not used.

    Raises:
        MissingFileError: the model is missing or gated, the network is down, or HF_HUB_OFFLINE is
            set and the model is not local.
        WriteError: the disk is full.
        KeysError: the repository has no weights.

    """
    if is_offline_mode():
        if (folder := cached(name)) is not None:
            return folder
        raise not_here(name)
    repository, revision = pinned(name)
    with translated(name, quiet=False):
        try:
            info = HfApi().model_info(repository, revision=revision)
        except httpx2.TransportError as error:
            if (folder := cached(name)) is not None:
                return folder
            raise ConnectionError(f"{constants.ENDPOINT}: {error}") from error
        files = [f.rfilename for f in info.siblings or () if "/" not in f.rfilename]
        kind = next((k for k in _WEIGHTS if any(Path(f).match(k) for f in files)), None)
        if kind is None:
            raise KeysError(name, "it holds no weights", "check the name")
        wanted = [f for f in files if any(Path(f).match(k) for k in (*_SMALL, kind))]
        found = snapshot_download(
            repository, revision=revision, allow_patterns=wanted, ignore_patterns=_FOLDERS
        )
        return Path(found)
