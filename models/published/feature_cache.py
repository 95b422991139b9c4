"""Stores the features of frozen encoders on disk, so that later epochs and runs need no encoder.

    DIR/features-1/ab/abc...123.safetensors    one item: a clip's or a text's features

The name of an item is its key, `item_key`: a hash of the encoder's files, of the options that
change its output, and of the samples or the text. So another encoder never finds the features of
this one. Several runs may use one folder at a time: an item is written under another name, then
renamed, and its SHA-256 is checked whenever it is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from abhinaya.models.base import FloatArray
from abhinaya.models.checkpoint import Tensors, read, save
from abhinaya.models.errors import MissingFileError, ModelError, RunError, WriteError
from abhinaya.models.sums import sum_of

FORMAT: Final = "features-1"
"""Version of the files and of the keys: change it, and no older item is used again."""
_PART: Final = ".tmp"
_ABANDONED_S: Final = 3600.0
"""Age in seconds of an unfinished file that no process can still be writing."""
_ROOM: Final = 0.9
"""Share of the limit to which old items are removed."""
_SHARERS: Final = 8
"""Processes that may write at the same time without passing the limit."""


class FeatureCache:
    """Features by key, in a folder of at most `limit_gb` GB.

    Above the limit, the items whose last use is the longest ago are removed, but never those that
    this run has used: if an epoch does not fit, the part that fits stays, and the rest is computed
    each time. A full disk ends the writing, not the run.

    Raises WriteError: the folder cannot be made.
    """

    def __init__(self, folder: Path, limit_gb: float, say: Callable[[str], object] = print) -> None:
        self.hits = self.misses = 0
        self._folder, self._limit, self._say = folder / FORMAT, round(limit_gb * 1e9), say
        self._began_ns, self._writes = time.time_ns(), True
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"it cannot be made ({error.strerror})"
            raise WriteError(folder, reason, "give another folder as run.cache") from error
        self._left = self._make_room()

    def get(self, key: str) -> Tensors | None:
        """Return the tensors of an item, on the CPU; None if it is not stored.

        A damaged item is removed.
        """
        path = self._path(key)
        found = None
        try:
            found = read(path).tensors
            os.utime(path, ns=(time.time_ns(),) * 2)
        except MissingFileError:
            pass
        except (ModelError, OSError, RuntimeError):  # the last: another process removes it
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        self.hits += found is not None
        self.misses += found is None
        return found

    def put(self, key: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Store the tensors of an item, in their types."""
        size = sum(t.numel() * t.element_size() for t in tensors.values())
        if self._writes and size > self._left:
            self._left = self._make_room(size)
            if size > self._left:
                self._stop(f"is full ({self._limit / 1e9:g} GB); a larger run.cache_gb stores more")
        if not self._writes:
            return
        path = self._path(key)
        part = path.with_name(f"{key}-{os.urandom(4).hex()}{_PART}")
        try:
            path.parent.mkdir(exist_ok=True)
            save(part, tensors)
            part.replace(path)
        except (OSError, WriteError) as error:
            part.unlink(missing_ok=True)
            self._stop(f"cannot be written ({error})")
        self._left -= size

    def counts(self) -> dict[str, int]:
        """Return the lookups since the last call: hits and misses."""
        found = {"hits": self.hits, "misses": self.misses}
        self.hits = self.misses = 0
        return found

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"

    def _stop(self, why: str) -> None:
        self._writes = False
        self._say(f"{self._folder}: {why}; features that are not stored are computed each time")

    def _make_room(self, size: int = 0) -> int:
        """Remove old items if `size` bytes do not fit; return how many bytes may be written now.

        That is a small part of the room that is left: other processes write at the same time.
        """
        found, now = list[tuple[int, int, Path]](), time.time()
        for path in self._folder.glob("*/*"):
            with contextlib.suppress(OSError):  # another process has just renamed or removed it
                status = path.stat()
                if path.suffix == _PART and now - status.st_mtime > _ABANDONED_S:
                    path.unlink()
                else:
                    found.append((status.st_mtime_ns, status.st_size, path))
        held = sum(item_bytes for _, item_bytes, _ in found)
        if held + size * _SHARERS > self._limit:
            wanted = min(_ROOM * self._limit, self._limit - 2 * size * _SHARERS)
            for used_ns, item_bytes, path in sorted(found):
                if held <= wanted or used_ns >= self._began_ns:
                    break
                with contextlib.suppress(OSError):
                    path.unlink()
                    held -= item_bytes
        return max(0, self._limit - held) // _SHARERS


def model_key(files: Path | Sequence[Path], **options: Any) -> str:
    """Return the SHA-256 of an encoder: of its files, or all files of a folder, and its `options`.

    Options are plain values: those that change the features.
    """
    paths = [files] if isinstance(files, Path) else list(files)
    whole = [p for path in paths for p in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    sums = [sum_of(path.resolve()) for path in whole if path.is_file()]
    return _digest(json.dumps([FORMAT, sums, options], sort_keys=True).encode())


def item_key(model: str, content: FloatArray | str) -> str:
    """Return the key of the features of samples [n], or of a text; `model` is a `model_key`."""
    if isinstance(content, str):
        return _digest(model.encode(), b"text", content.encode())
    return _digest(model.encode(), b"samples", np.ascontiguousarray(content, np.float32).tobytes())


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def features_of(
    cache: FeatureCache | None,
    names: Sequence[str],
    keys: Sequence[str],
    compute: Callable[[list[int]], Sequence[Mapping[str, torch.Tensor]]],
) -> list[Tensors]:
    """Return the features of each item: the stored ones, or computed in one call and then stored.

    `keys` are those of `item_key`; an empty key is never stored (augmented audio). `compute` gets
    the indices of the missing items. `names` are for messages. The device of the tensors is that of
    `compute`, or the CPU.

    Raises RunError: computed features hold values that are not numbers.
    """
    found = [cache.get(key) if cache is not None and key else None for key in keys]
    missing = [i for i, known in enumerate(found) if known is None]
    for i, made in zip(missing, compute(missing) if missing else (), strict=True):
        if bad := [name for name, t in made.items() if not bool(torch.isfinite(t).all())]:
            raise RunError(
                names[i],
                f"the encoder's features ({', '.join(bad)}) hold values that are not numbers",
                "check this file, or set precision = 'fp32'",
            )
        found[i] = dict(made)
        if cache is not None and keys[i]:
            cache.put(keys[i], made)
    return [known for known in found if known is not None]
