"""`abhinaya train RECIPE`: a model trained from a manifest, as a recipe says."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from abhinaya.models.command_line import Parser
from abhinaya.models.errors import ModelError
from abhinaya.train.data.clips import DataError
from abhinaya.train.data.manifest import read_manifest, read_names
from abhinaya.train.errors import Interrupted, TrainingError
from abhinaya.train.recipes.recipe import OWN_LOOP, load_recipe, recipe_text, recipes
from abhinaya.train.recipes.settings import described

EXIT_INTERRUPTED = 130


def main(argv: Sequence[str]) -> int:
    """Run; 0, 1 with one line about what was wrong, or 130 if it was told to stop."""
    args = _parser().parse_args(argv)
    try:
        other = {"list": _list, "settings": _settings}.get(args.recipe)
        return other() if other is not None else _train(args)
    except Interrupted as stopped:
        print(f"abhinaya train: {stopped}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        print(
            "abhinaya train: stopped at once; --resume goes on from the last saved state",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    except (DataError, TrainingError, ModelError) as error:
        print(f"abhinaya train: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="abhinaya train", description=__doc__)
    parser.add_argument(
        "recipe", help="name or path of a recipe; `list` lists those of the package"
    )
    parser.add_argument("--data", type=Path, metavar="MANIFEST", help="see abhinaya data prepare")
    parser.add_argument("--root", type=Path, help="another folder of the audio")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the run")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="another value in the recipe, as train.rate=1e-4; VALUE as in TOML",
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument(
        "--despite-changes",
        action="store_true",
        help="continue although the recipe or the data is another one",
    )
    parser.add_argument("--show", action="store_true", help="print the recipe, to be changed")
    return parser


def _list() -> int:
    known = {**recipes(), **OWN_LOOP}
    width = max(map(len, known))
    for name, about in known.items():
        print(f"{name:{width}}  {about}")
    return 0


def _settings() -> int:
    for key, default, meaning in described():
        print(f"{key} = {default}\n    {meaning}")
    return 0


def _train(args: argparse.Namespace) -> int:
    if args.show:
        print(recipe_text(args.recipe), end="")
        return 0
    recipe = load_recipe(args.recipe, args.set)
    absent = [flag for flag, value in (("--data", args.data), ("--out", args.out)) if not value]
    if absent:
        raise TrainingError(f"recipe {args.recipe!r}: give {' and '.join(absent)}; see --help")
    manifest = read_manifest(args.data, args.root)
    listed = read_names(Path(recipe.data.validation_list)) if recipe.data.validation_list else ()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats itself only so
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # reading processes are forked
    from abhinaya.train.loop.session import (  # torch and its kin, after the recipe is checked
        Job,
        train,
    )

    made_by = shlex.join(["abhinaya", "train", *_said(args)])
    train(
        Job(recipe, manifest, args.out, args.resume, args.despite_changes, listed, made_by),
        _say,
    )
    return 0


def _said(args: argparse.Namespace) -> list[str]:
    settings = [word for value in args.set for word in ("--set", value)]
    return [args.recipe, "--data", str(args.data), "--out", str(args.out), *settings]


def _say(line: str) -> None:
    print(line, flush=True)
