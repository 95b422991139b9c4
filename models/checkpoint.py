"""Reads checkpoint files without running code in them, and checks every key.

Most loaders accept a checkpoint that fits only in part, and the model then returns nonsense. Here a
load fails if an expected key is missing, an unexpected key is not listed in `ignored`, a shape
differs, or a weight is NaN or infinite.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from abhinaya.models import sums
from abhinaya.models.errors import (
    LFS_POINTER,
    DamagedFileError,
    KeysError,
    MissingFileError,
    WriteError,
    listed,
)

Tensors = dict[str, Tensor]

_WRAPPERS: Final = ("model", "state_dict", "model_state_dict")
_INDEX_NAMES: Final = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_FILE_NAMES: Final = ("model.safetensors", "pytorch_model.bin")
_METADATA_KEY: Final = "abhinaya"
_DIGEST_KEY: Final = "sha256"
"""SHA-256 of all tensors. It is in the file, so that a kill never separates the two."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Tensors by their names in the file, and other values of the file."""

    path: Path
    tensors: Tensors
    extra: dict[str, Any] = field(default_factory=dict)
    """Plain values stored with the tensors, for example BEATs' `cfg`."""


def read(path: str | os.PathLike[str], prefix: str = "") -> Checkpoint:
    """Read a checkpoint: a file (safetensors or torch), or a folder with one, sharded or not.

    With `prefix`, read only the keys that begin with it, and remove it from their names.

    Raises:
        MissingFileError: the path does not exist or cannot be read.
        DamagedFileError: the file is incomplete, is not a checkpoint, or contains code.

    """
    path = Path(path)
    tensors: Tensors = {}
    extra: dict[str, Any] = {}
    for file in _files(path):
        found, more = _read_file(file, prefix)
        tensors |= found
        extra |= more
    return Checkpoint(path, tensors, extra)


def save(path: Path, tensors: Mapping[str, Tensor], extra: Mapping[str, Any] | None = None) -> None:
    """Write safetensors atomically; `extra` must be plain values (JSON).

    Raises:
        WriteError: the folder is missing, or the disk is full.

    """
    # safetensors refuses tensors that share memory, so each gets a copy.
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    # transformers reads no file without the format
    metadata = {"format": "pt", _DIGEST_KEY: _digest(copies)}
    if extra:
        metadata[_METADATA_KEY] = json.dumps(dict(extra))
    part = path.with_name(f"{path.name}.part")
    try:
        save_file(copies, part, metadata=metadata)
        part.replace(path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise WriteError(
            path, f"it cannot be written ({error})", "check that the folder exists and has room"
        ) from error


def convert(source: Path, target: Path) -> Checkpoint:
    """Rewrite any readable checkpoint as one safetensors file with the same keys.

    Plain values such as BEATs' `cfg` are kept; the state of an optimizer is not.
    """
    checkpoint = read(source)
    check_finite(checkpoint.tensors, source)
    plain = {k: v for k, v in checkpoint.extra.items() if _is_plain(v)}
    save(target, checkpoint.tensors, plain)
    return Checkpoint(target, checkpoint.tensors, plain)


def fill(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    subject: object,
    *,
    ignored: Sequence[str] = (),
    remedy: str = "Check that the file belongs to this model",
) -> None:
    """Load weights into a module and check every key.

    `ignored` holds regular expressions (full match) of keys that are allowed but not used.

    Raises:
        KeysError: a key is missing, unexpected or of another shape, or a weight is not finite.

    """
    expected = module.state_dict()
    missing = expected.keys() - tensors.keys()
    spare = {k for k in tensors.keys() - expected.keys() if not matches(k, ignored)}
    faults = []
    if missing:
        faults.append(f"{len(missing)} weights are missing: {listed(missing)}")
    if spare:
        faults.append(f"{len(spare)} are not of this model: {listed(spare)}")
    used = {k: tensors[k] for k in expected.keys() & tensors.keys()}
    if wrong := [
        f"{k} {list(t.shape)} in place of {list(expected[k].shape)}"
        for k, t in used.items()
        if t.shape != expected[k].shape
    ]:
        faults.append(f"{len(wrong)} have another shape: {listed(wrong, 4)}")
    if faults:
        raise KeysError(subject, "; ".join(faults), remedy)
    check_finite(used, subject)
    module.load_state_dict(used, strict=True)


def check_finite(tensors: Mapping[str, Tensor], subject: object) -> None:
    """Raise KeysError that names every weight with a NaN or an infinite value."""
    if bad := [
        k for k, t in tensors.items() if t.is_floating_point() and not torch.isfinite(t).all()
    ]:
        raise KeysError(
            subject,
            f"weights that are NaN or infinite: {listed(bad)}",
            "the training run that wrote it diverged; use an earlier checkpoint",
        )


def matches(key: str, patterns: Iterable[str]) -> bool:
    """Whether a key fully matches one of some regular expressions."""
    return any(re.fullmatch(pattern, key) for pattern in patterns)


def renamed(tensors: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> Tensors:
    """Replace prefixes of keys; the first prefix that fits is used.

    Raises:
        KeysError: two keys would get the same name.

    """
    found: Tensors = {}
    for key, tensor in tensors.items():
        old = next((p for p in prefixes if key.startswith(p)), "")
        name = prefixes[old] + key.removeprefix(old) if old else key
        if name in found:
            raise KeysError(key, f"two tensors are called {name}", "remove one of them")
        found[name] = tensor
    return found


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise MissingFileError(
            path, "it does not exist", "check the path, or download the checkpoint first"
        )
    if path.is_file():
        return [path]
    for name in _INDEX_NAMES:
        if (index := path / name).exists():
            try:
                shards = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
            except (ValueError, KeyError, AttributeError) as error:
                raise DamagedFileError(
                    index, f"it is not an index of shards ({error!r})", "download it again"
                ) from error
            return [file for shard in sorted(shards) for file in _files(path / Path(shard).name)]
    for name in _FILE_NAMES:
        if (path / name).exists():
            return [path / name]
    raise MissingFileError(
        path, f"the folder holds none of {', '.join(_FILE_NAMES)}", "download the checkpoint again"
    )


def _read_file(path: Path, prefix: str) -> tuple[Tensors, dict[str, Any]]:
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError as error:
        raise MissingFileError(
            path, f"it cannot be read ({error.strerror})", "check its permissions"
        ) from error
    size = path.stat().st_size
    if head.startswith(LFS_POINTER):
        raise DamagedFileError(
            path,
            f"it is a git-lfs pointer of {size} bytes, not the file itself",
            "run git lfs pull in its folder, or download the file",
        )
    if head.lstrip()[:1] == b"<":
        raise DamagedFileError(
            path, "it is a web page, not a checkpoint", "download the file itself, not its page"
        )
    # safetensors begins with the length of its header in 8 bytes, then JSON.
    read_kind = _read_safetensors if head[8:9] == b"{" else _read_torch
    found = read_kind(path, prefix)
    sums.check(path)
    return found


def _read_safetensors(path: Path, prefix: str) -> tuple[Tensors, dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {
                k.removeprefix(prefix): file.get_tensor(k)
                for k in file.keys()  # noqa: SIM118 - not a mapping
                if k.startswith(prefix)
            }
    except SafetensorError as error:
        raise _truncated(path, error) from error
    if not prefix and metadata.get(_DIGEST_KEY, digest := _digest(tensors)) != digest:
        raise DamagedFileError(
            path, "its weights are not those that were written (SHA-256)", "copy the file again"
        )
    return tensors, json.loads(metadata.get(_METADATA_KEY, "{}"))


def _read_torch(path: Path, prefix: str) -> tuple[Tensors, dict[str, Any]]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's message names the class that the file would run.
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None:  # the rest of torch's message advises to run the code in the file
            raise _truncated(path, EOFError("it is not an archive of weights")) from error
        raise DamagedFileError(
            path,
            f"it holds code ({named[1]}), not only weights, and loading it would run that",
            "ask its author for safetensors, or save model.state_dict() with the code that made it",
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, OSError) as error:
        raise _truncated(path, error) from error
    if not isinstance(content, dict):
        raise DamagedFileError(
            path, f"it holds a {type(content).__name__}, not weights by name", "use a state_dict"
        )
    wrapper = next((w for w in _WRAPPERS if isinstance(content.get(w), dict)), None)
    weights = content[wrapper] if wrapper else content
    tensors = {
        str(k).removeprefix(prefix): v
        for k, v in weights.items()
        if isinstance(v, Tensor) and str(k).startswith(prefix)
    }
    extra = {k: v for k, v in content.items() if k != wrapper and not isinstance(v, Tensor)}
    return tensors, extra


def _truncated(path: Path, error: Exception) -> DamagedFileError:
    size = path.stat().st_size
    why = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DamagedFileError(
        path,
        f"its {size:,} bytes are not a whole checkpoint ({why})",
        "the download was cut short or the file is of another kind; download it again",
    )


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names and values, in hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _is_plain(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
