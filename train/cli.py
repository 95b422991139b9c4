"""`abhinaya train`: train the models that the monitor loads, and measure them.

abhinaya train RECIPE --data MANIFEST --out DIR    see docs/training.md and `train list`
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from abhinaya.models import sums
from abhinaya.models.base import Ballot
from abhinaya.models.command_line import Parser
from abhinaya.models.registry import load
from abhinaya.models.text import say
from abhinaya.models.toml import as_toml
from abhinaya.models.trial import attempt
from abhinaya.train.command import changed, guarded
from abhinaya.train.data.manifest import read_manifest, read_names
from abhinaya.train.ensemble.cli import add_ensemble, run_ensemble
from abhinaya.train.ensemble.soup import add_soup, run_soup
from abhinaya.train.errors import TrainingError
from abhinaya.train.recipes.described import described
from abhinaya.train.recipes.recipe import OWN_LOOP, load_recipe, recipe_text, recipes
from abhinaya.train.recipes.system import load_system, systems
from abhinaya.train.tiny.cards import BACKGROUNDS, write_card

DATA: Final = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
CACHE: Final = Path("/tmp/abhinaya-cache")  # noqa: S108 - holds only files that can be made again
WEIGHTS: Final = Path(__file__).resolve().parent.parent / "models" / "tiny" / "weights"
TEXT: Final = "tiny-text"


def main(argv: Sequence[str]) -> int:
    """Run one command; return the exit code, see `guarded`."""
    argv = ["list" if word == "--list" else word for word in argv[:1]] + list(argv[1:])
    own = not {*COMMANDS, "-h", "--help", "--version"} & {*argv[:1]}
    args = (_recipe_parser() if argv and own else _parser()).parse_args(argv)
    return guarded("abhinaya train", lambda: args.run(args) or 0)


# --- a recipe -------------------------------------------------------------------------------------


def _recipe_parser() -> argparse.ArgumentParser:
    parser = Parser("abhinaya train", "Train a model on the clips of a manifest, with a recipe.")
    add = parser.add_argument
    add("recipe", help="name or path of a recipe; names: abhinaya train list")
    add("--data", type=Path, metavar="MANIFEST", help="made by abhinaya data prepare")
    add("--root", type=Path, help="folder of the audio, if it was moved")
    add("--out", type=Path, metavar="DIR", help="folder of the run")
    about = "change a setting of the recipe: train.rate=1e-4; VALUE as in TOML"
    add("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help=about)
    add("--resume", action="store_true", help="continue the run in --out")
    about = "continue although the recipe or the data has changed"
    add("--despite-changes", action="store_true", help=about)
    add("--show", action="store_true", help="print the recipe, changed by --set, and exit")
    parser.set_defaults(run=_run_recipe)
    return parser


def _run_recipe(args: argparse.Namespace) -> None:
    if args.show and not args.set:
        print(recipe_text(args.recipe), end="")
        return
    recipe = load_recipe(args.recipe, args.set)
    if args.show:
        origins = {pair.partition("=")[0]: f"--set {pair}" for pair in args.set}
        print(as_toml(f"abhinaya train {args.recipe} --show", recipe, origins), end="")
        return
    absent = [flag for flag, value in (("--data", args.data), ("--out", args.out)) if not value]
    if absent:
        raise TrainingError(f"recipe {args.recipe!r}: give {' and '.join(absent)}; see --help")
    manifest = read_manifest(args.data, args.root)
    listed = read_names(Path(recipe.data.validation_list)) if recipe.data.validation_list else ()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or cuBLAS is not deterministic
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # or it warns: workers are forked
    from abhinaya.train.loop.session import Job, train  # imports torch: check the recipe first

    settings = [word for value in args.set for word in ("--set", value)]
    words = [args.recipe, "--data", str(args.data), "--out", str(args.out), *settings]
    made_by = shlex.join(["abhinaya", "train", *words])
    train(Job(recipe, manifest, args.out, args.resume, args.despite_changes, listed, made_by), say)


def _list(args: argparse.Namespace) -> None:
    known = {**recipes(), **OWN_LOOP}
    made = [load_system(name) for name in systems()]
    width = max(map(len, [*known, *(system.name for system in made)]))
    for name, about in known.items():
        say(f"{name:{width}}  {about}")
    say("", "whole systems, for abhinaya reproduce:", "")
    for system in made:
        figures = dict.fromkeys(f"{p.what} {p.value:.4f}" for p in system.published if not p.row)
        best = ", ".join([text for text in figures if text.startswith("test3")][:3])
        say(f"{system.name:{width}}  {system.about}", f"{'':{width}}  {best}; {system.source}")


def _settings(args: argparse.Namespace) -> None:
    for key, default, meaning in described():
        say(f"{key} = {default}", f"    {meaning}")


# --- the embedded voters --------------------------------------------------------------------------


def _train_tiny(args: argparse.Namespace) -> None:
    model, how = args.command, "bench quality"
    if model == TEXT:
        if importlib.util.find_spec("onnx") is None:  # check before ten minutes of training
            raise TrainingError("onnx is missing; install the extra: pip install 'abhinaya[train]'")
        from abhinaya.train.tiny import text  # imports torch

        path = text.train_and_write(args.data, args.out, changed(text.TextRecipe(), args.set), say)
        how = f"train evaluate {TEXT} --weights {path}"
    else:
        from abhinaya.train.tiny import speech

        recipe = changed(speech.RECIPES[model], args.set)
        path = speech.train_and_write(model, args.data, args.cache, args.out, recipe, say)
    made_by = " ".join(["abhinaya train", model, *(f"--set {s}" for s in args.set)])
    path.with_suffix(".json").unlink(missing_ok=True)  # the card of the old weights
    sums.record(path)
    voter = load(model, {"weights": str(path)})
    answer = attempt(voter).answer
    trial = answer.probabilities if isinstance(answer, Ballot) else None
    shares = [round(p, 4) for p in trial or ()]
    write_card(path, model, voter.card.version, made_by=made_by, trial=shares)
    say(f"wrote {path}; measure it with: abhinaya {how}")


def _vote(args: argparse.Namespace) -> None:
    from abhinaya.train.tiny.vote import VoteRecipe, fit_vote

    recipe = changed(VoteRecipe(), args.set)
    say(f"wrote {fit_vote(args.data, args.cache, args.out, recipe, say)}")


def _evaluate(args: argparse.Namespace) -> None:
    from abhinaya.train.tiny.text_figures import text_figures

    path = args.weights or WEIGHTS / f"{TEXT}.onnx"
    voter = load(TEXT, {"weights": str(path)})
    figures = text_figures(voter, args.data, say)
    card = write_card(path, TEXT, voter.card.version, figures=figures)
    print(card.read_text(encoding="utf-8"))


COMMANDS: Final[Mapping[str, tuple[Callable[[argparse.Namespace], None], str]]] = {
    "list": (_list, "list recipes and systems (also: --list)"),
    "settings": (_settings, "print every setting of a recipe, its default and meaning"),
    **{model: (_train_tiny, f"train {model}, write its card") for model in BACKGROUNDS},
    "tiny-vote": (_vote, "fit the vote rule of the embedded profile"),
    "evaluate": (_evaluate, f"measure {TEXT} and write the figures to its card"),
    "ensemble": (lambda args: run_ensemble(args, say), "fit a combiner on held-out votes"),
    "soup": (run_soup, "average the weights of runs of one recipe"),
}
"""Any other first argument is a recipe. The embedded voters have their own training loops."""


def _parser() -> argparse.ArgumentParser:
    parser = Parser("abhinaya train", __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    made = {}
    for name, (run, about) in COMMANDS.items():
        made[name] = commands.add_parser(name, help=about)
        made[name].set_defaults(run=run)
    add_ensemble(made["ensemble"])
    add_soup(made["soup"])
    for name in (*BACKGROUNDS, "tiny-vote", "evaluate"):
        add_data(made[name])
        if name != "evaluate":
            add = made[name].add_argument
            add("--out", type=Path, default=WEIGHTS, help="folder of the weights")
            add_changes(made[name])
    add = made["evaluate"].add_argument
    about = "the others need audio: abhinaya bench quality measures them with the whole monitor"
    add("model", choices=[TEXT], help=about)
    add("--weights", type=Path, help="file; default: the bundled one")
    return parser


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the flags for the data of the embedded voters."""
    add = parser.add_argument
    add("--data", type=Path, default=DATA, help="folder with speech.csv and text/")
    add("--cache", type=Path, default=CACHE, help="folder for features")


def add_changes(parser: argparse.ArgumentParser) -> None:
    """Add the flag that changes settings of a recipe of the embedded voters."""
    about = "change a setting of the recipe: schedule.rate=1e-3; VALUE is JSON"
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=about)
