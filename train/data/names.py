"""Lists of clips by name, as people and the published code write them."""

from __future__ import annotations

import json
from pathlib import Path

from abhinaya.train.data.clips import DataError


def read_names(path: Path) -> list[str]:
    """File names of a list: a line each, or JSON, a list or an object with a list `path`.

    Raises:
        DataError: no such list, or it holds none.

    """
    if not path.is_file():
        raise DataError(f"{path}: no such list; give a file with one clip a line")
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".json":
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: is not JSON ({error.msg}); mend it") from error
    names = found.get("path") if isinstance(found, dict) else found
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: holds no list of names, nor an object with one under `path`")
    return [Path(name).name for name in names]
