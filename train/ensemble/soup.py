"""`abhinaya train soup`: average the weights of several runs of one recipe (a uniform model soup).

Runs that began with the same weights, such as fine-tunings of one encoder with other seeds or
rates, often have one good model between them. Weights that began at random do not: measure it.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from abhinaya.models.errors import listed
from abhinaya.train.command import Say
from abhinaya.train.errors import DataError

WEIGHTS: Final = "model.safetensors"
MAY_DIFFER: Final = ("seed", "rate", "epochs")
"""Settings of `train` that the recipes of the runs need not share."""


def add_soup(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `soup`."""
    add = parser.add_argument
    add("checkpoints", nargs="+", type=Path, metavar="DIR", help="best/ of runs of one recipe")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the new checkpoint")


def run_soup(args: argparse.Namespace, say: Say) -> None:
    """Write the mean of the checkpoints.

    Raises DataError: they are of different recipes, labels or shapes, or --out exists; ModelError:
    one cannot be read.
    """
    from abhinaya.models.checkpoint import check_finite, read, save  # imports torch
    from abhinaya.train.loop.checkpoint_card import PROFILE

    folders: list[Path] = args.checkpoints
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise DataError("give at least two different checkpoints")
    if args.out.exists():
        raise DataError(f"--out {args.out}: exists already; give another folder")
    first, *others = (read(folder) for folder in folders)
    for folder, other in zip(folders[1:], others, strict=True):
        _check(folders[0], first, folder, other)
    mean = {}
    for name, tensor in first.tensors.items():
        same = [other.tensors[name] for other in others]
        if tensor.is_floating_point():
            total = sum((one.double() for one in same), tensor.double())
            mean[name] = (total / len(folders)).to(tensor.dtype)
        elif all(one.equal(tensor) for one in same):
            mean[name] = tensor
        else:
            raise DataError(f"{name} is not of real numbers and differs: it has no mean")
    check_finite(mean, args.out)
    half = args.out.with_name(f"{args.out.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    unwanted = shutil.ignore_patterns(
        "*.safetensors", "*.bin", "*.pt", "*.index.json", "SHA256SUMS"
    )
    shutil.copytree(folders[0], half, ignore=unwanted)
    made_by = f"abhinaya train soup {' '.join(map(str, folders))}"
    save(half / WEIGHTS, mean, {**first.extra, "figures": {}, "made_by": made_by})
    if (profile := half / PROFILE).exists():
        was, now = json.dumps(str(folders[0])), json.dumps(str(args.out))
        profile.write_text(profile.read_text("utf-8").replace(was, now), "utf-8")
    half.replace(args.out)
    say(f"wrote {args.out}: the mean of {len(folders)} checkpoints; measure it with abhinaya eval")


def _check(place: Path, first: Any, folder: Path, other: Any) -> None:
    """Raise DataError if two checkpoints cannot be averaged."""
    both = (first.extra, other.extra)
    for key in ("labels", "voter"):
        if both[0].get(key) != both[1].get(key):
            raise DataError(
                f"{folder}: its {key} are {both[1].get(key)}, those of {place} {both[0].get(key)}"
            )
    one, two = (_settings(extra.get("recipe", {})) for extra in both)
    if wrong := sorted(key for key in one.keys() | two if one.get(key) != two.get(key)):
        raise DataError(
            f"{folder}: its recipe differs from that of {place} in {', '.join(wrong)}; only "
            f"{', '.join(MAY_DIFFER)} of train may differ"
        )
    sizes = [{name: tensor.shape for name, tensor in c.tensors.items()} for c in (first, other)]
    names = sizes[0].keys() | sizes[1]
    if wrong := sorted(name for name in names if sizes[0].get(name) != sizes[1].get(name)):
        raise DataError(f"{folder}: its weights are not those of {place}: {listed(wrong, 4)}")


def _settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a recipe that must agree, by SECTION.KEY."""
    return {
        f"{section}.{key}": value
        for section, table in recipe.items()
        for key, value in (table.items() if isinstance(table, Mapping) else [("", table)])
        if section != "train" or key not in MAY_DIFFER
    }
