"""Lists of clips by name, as people and the published code write them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from abhinaya.train.data.clips import DataError


def read_names(path: Path) -> list[str]:
    """File names of a list: a line each, or JSON, a list or an object with a list `path`.

    Raises:
        DataError: no such list, it is no text, it holds no name, or one twice.

    """
    if not path.is_file():
        raise DataError(f"{path}: no such list; give a file with one clip a line")
    try:
        text = path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}; is it the list?") from error
    if path.suffix == ".json":
        names = _of_json(path, text)
    else:
        names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        raise DataError(f"{path}: names no clip; give one a line")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(
            f"{path}: names {len(twice)} clips more than once, the first {twice[0]!r}; remove all "
            "but one of each"
        )
    return names


def _of_json(path: Path, text: str) -> list[str]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: is not JSON ({error.msg}); mend it") from error
    names = found.get("path") if isinstance(found, dict) else found
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: holds no list of names, nor an object with one under `path`")
    return [Path(name).name for name in names]
