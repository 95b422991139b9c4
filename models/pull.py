"""Files of a model on the Hub: are they here, and getting them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import httpx2
from huggingface_hub import HfApi, constants, is_offline_mode, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from abhinaya.models.errors import KeysError
from abhinaya.models.hugging_face import not_here, translated

_FOLDERS: Final = "*/*"
"""Folders in a repository hold other formats and states of training."""
_SMALL: Final = ("*.json", "*.txt", "*.model", "README.md")
# What holds weights, best first; the first kind that a repository has is all that is taken.
_WEIGHTS: Final = ("*.safetensors", "*.bin", "*.pth", "*.pt")


def cached(repo: str) -> Path | None:
    """Give the folder of a model that has been downloaded whole; None if it has not."""
    for kind in _WEIGHTS:
        try:
            folder = Path(
                snapshot_download(
                    repo, allow_patterns=kind, ignore_patterns=_FOLDERS, local_files_only=True
                )
            )
        except LocalEntryNotFoundError:  # an incomplete one is one of these
            continue
        if any(folder.glob(kind)) and _has_all_shards(folder):
            return folder
    return None


def _has_all_shards(folder: Path) -> bool:
    indices = folder.glob("*.index.json")
    shards = {s for i in indices for s in json.loads(i.read_text())["weight_map"].values()}
    return all((folder / shard).exists() for shard in shards)


def pull(repo: str) -> Path:
    """Download a model, or what is missing of it, with progress; give its folder.

    A lost connection is taken up where it broke; after an end of the program, files that were whole
    are kept. With HF_HUB_OFFLINE set, nothing is asked of the network and a model that is not here
    is an error.

    Raises:
        MissingFileError: it is not there, gated, or the network is.
        WriteError: there is no room.
        KeysError: it holds no weights.

    """
    if is_offline_mode():
        if (folder := cached(repo)) is not None:
            return folder
        raise not_here(repo)
    with translated(repo, quiet=False):
        try:
            info = HfApi().model_info(repo)
        except httpx2.TransportError as error:
            raise ConnectionError(f"{constants.ENDPOINT}: {error}") from error
        files = [f.rfilename for f in info.siblings or () if "/" not in f.rfilename]
        kind = next((k for k in _WEIGHTS if any(Path(f).match(k) for f in files)), None)
        if kind is None:
            raise KeysError(repo, "it holds no weights", "Check the name")
        wanted = [name for name in files if any(Path(name).match(k) for k in (*_SMALL, kind))]
        return Path(snapshot_download(repo, allow_patterns=wanted, ignore_patterns=_FOLDERS))
