"""The mean of the weights of several checkpoints of one recipe: a uniform model soup.

Use runs that began with the same weights: others rarely have a good model between them.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from abhinaya.models.errors import KeysError, WriteError, listed
from abhinaya.models.text import say

if TYPE_CHECKING:
    from abhinaya.models.checkpoint import Checkpoint

WEIGHTS: Final = "model.safetensors"
PROFILE: Final = "voter.toml"
"""File of a checkpoint that names its folder."""
MAY_DIFFER: Final = ("seed", "train.rate", "train.epochs")
"""Settings that the recipes of the runs need not share."""
_REMEDY: Final = "give checkpoints of one recipe"


def add_soup(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `abhinaya train soup`."""
    add = parser.add_argument
    add("checkpoints", nargs="+", type=Path, metavar="DIR", help="best/ of runs of one recipe")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the new checkpoint")


def run_soup(args: argparse.Namespace) -> None:
    """Run `abhinaya train soup`. Raises as `soup`."""
    soup(args.checkpoints, args.out)
    say(f"wrote {args.out}: the mean of {len(args.checkpoints)} checkpoints; measure it")


def soup(folders: Sequence[Path], out: Path) -> None:
    """Write the mean of checkpoints to a new folder.

    Raises:
        KeysError: they are of different recipes, labels or shapes, or only one is given.
        WriteError: `out` exists, or cannot be written.
        ModelError: a checkpoint cannot be read.

    """
    from abhinaya.models.checkpoint import check_finite, read, save  # imports torch

    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise KeysError(out, "fewer than two different checkpoints", _REMEDY)
    if out.exists():
        raise WriteError(out, "exists already", "give another folder")
    first, *others = (read(folder) for folder in folders)
    for other in others:
        if wrong := sorted(_differences(first, other)):
            reason = f"differs from {first.path} in {listed(wrong, 4)}"
            raise KeysError(other.path, reason, _REMEDY)
    mean = {}
    for name, tensor in first.tensors.items():
        total = sum((other.tensors[name].double() for other in others), tensor.double())
        mean[name] = (total / len(folders)).to(tensor.dtype)
    check_finite(mean, out)
    half = out.with_name(f"{out.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    weights = shutil.ignore_patterns("*.safetensors", "*.bin", "*.index.json", "SHA256SUMS")
    shutil.copytree(folders[0], half, ignore=weights)
    made_by = f"abhinaya train soup {' '.join(map(str, folders))}"
    save(half / WEIGHTS, mean, {**first.extra, "figures": {}, "made_by": made_by})
    if (profile := half / PROFILE).exists():
        was, now = json.dumps(str(folders[0])), json.dumps(str(out))
        profile.write_text(profile.read_text("utf-8").replace(was, now), "utf-8")
    half.replace(out)


def _differences(one: Checkpoint, other: Checkpoint) -> set[str]:
    """Return the settings and weights in which two checkpoints must agree, and do not."""
    found = set()
    for left, right in (
        [{key: of.extra.get(key) for key in ("labels", "voter")} for of in (one, other)],
        [dict(_settings(of.extra.get("recipe", {}))) for of in (one, other)],
        [{name: t.shape for name, t in of.tensors.items()} for of in (one, other)],
    ):
        found |= {key for key in left.keys() | right if left.get(key) != right.get(key)}
    whole = {k: t for k, t in one.tensors.items() if not t.is_floating_point()}
    found |= {k for k, t in whole.items() if k not in found and not t.equal(other.tensors[k])}
    return found


def _settings(recipe: Mapping[str, Any], path: str = "") -> list[tuple[str, Any]]:
    """Return the settings of a recipe that must agree, by SECTION.KEY."""
    found: list[tuple[str, Any]] = []
    for key, value in recipe.items():
        if isinstance(value, Mapping):
            found += _settings(value, f"{path}{key}.")
        elif path + key not in MAY_DIFFER:
            found.append((path + key, value))
    return found
