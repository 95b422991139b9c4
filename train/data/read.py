"""Reads a corpus by its name."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from abhinaya.models.errors import near_miss
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.manifest import Manifest
from abhinaya.train.data.read_dialogue import read_cremad, read_goemotions, read_iemocap, read_meld
from abhinaya.train.data.read_msp import read_msp_podcast
from abhinaya.train.data.read_plain import NAMINGS, read_acted, read_csv
from abhinaya.train.errors import DataError

Reader = Callable[[Path], list[Clip]]

CORPORA: Final[Mapping[str, Reader]] = {
    **{name: partial(read_acted, corpus=name) for name in NAMINGS},
    "cremad": read_cremad,
    "csv": read_csv,
    "goemotions": read_goemotions,
    "iemocap": read_iemocap,
    "meld": read_meld,
    "msp-podcast": read_msp_podcast,
}
"""Name -> reader. A new corpus needs a reader and a line here."""


STRANGE: Final = (ValueError, KeyError, IndexError, TypeError, AttributeError, csv.Error, OSError)
"""Errors of a reader on a file that differs from the published corpus."""


def read_corpus(name: str, folder: Path) -> Manifest:
    """Read the corpus `name` below `folder` (for `csv`, a file).

    Raises DataError: corpus or folder is unknown, the files are not the corpus, or a clip occurs
    twice.
    """
    if name not in CORPORA:
        raise DataError(f"corpus {name!r}: unknown corpus; {near_miss(name, CORPORA)}")
    if not folder.exists():
        raise DataError(f"{folder}: no such folder; give where {name} was unpacked")
    clips = _read(name, folder)
    seen: set[str] = set()
    for clip in clips:
        if clip.id in seen:
            raise DataError(
                f"{folder}: clip {clip.id!r} is there twice (the second at {clip.path!r}); if the "
                "folder has two copies of the corpus, give one of them"
            )
        seen.add(clip.id)
    return Manifest(folder if folder.is_dir() else folder.parent, tuple(clips))


def _read(name: str, folder: Path) -> list[Clip]:
    try:
        return CORPORA[name](folder)
    except DataError:
        raise
    except STRANGE as error:
        raise DataError(
            f"{folder}: a file is not as {name} was published ({type(error).__name__}: {error}); "
            "fetch it again, or give the folder of the original"
        ) from error
