"""`abhinaya train`: from data to the weights the monitor loads, and their figures.

abhinaya train RECIPE --data MANIFEST --out DIR    see docs/training.md and `train list`
abhinaya train tiny-speech, tiny-text, tiny-joint  the embedded voters
abhinaya train tiny-vote                           the rule that the embedded profile votes by
abhinaya train crossval                            tiny-speech without some speakers or a corpus
abhinaya train evaluate tiny-text                  its figures, written into its card
abhinaya train ensemble                            what the voters' votes are combined by
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Final

from abhinaya.models.command_line import Parser
from abhinaya.models.errors import ModelError
from abhinaya.models.registry import load
from abhinaya.train.data.clips import DataError
from abhinaya.train.ensemble import cli as ensemble_cli
from abhinaya.train.errors import TrainingError
from abhinaya.train.loop import cli as run_cli
from abhinaya.train.tiny.cards import BACKGROUNDS, measured, write_card
from abhinaya.train.tiny.recipes import changed

DATA: Final = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
CACHE: Final = Path("/tmp/abhinaya-cache")  # noqa: S108 - features and a teacher, remade if missing
FOLDS: Final = CACHE / "folds"
WEIGHTS: Final = Path(__file__).resolve().parent.parent / "models" / "tiny" / "weights"
TEXT: Final = "tiny-text"
VOTE: Final = "tiny-vote"
COMMANDS: Final = (*BACKGROUNDS, VOTE, "crossval", "ensemble", "evaluate")
"""The rest are recipes of the trainer; the embedded voters have a loop of their own (`loop.py`)."""


def main(argv: list[str]) -> int:
    """Run one command; returns 0, or 1 with one line on standard error about what was wrong."""
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        return run_cli.main(argv)
    args = _parser().parse_args(argv)
    try:
        if args.command == "evaluate":
            _evaluate(args)
        elif args.command == "ensemble":
            ensemble_cli.run_ensemble(args, _say)
        elif args.command == "crossval":
            _crossval(args)
        elif args.command == VOTE:
            _vote(args)
        else:
            _train(args)
    except (DataError, TrainingError, ModelError) as error:
        print(f"abhinaya train: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser("abhinaya train", __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    helps = {model: f"train {model} and write its weights and card" for model in BACKGROUNDS}
    for model, told in {**helps, VOTE: "fit the rule of the embedded profile"}.items():
        command = commands.add_parser(model, help=told)
        _add_folders(command)
        command.add_argument("--out", type=Path, default=WEIGHTS, help="folder of the weights")
        _add_recipe(command)
    crossed = commands.add_parser("crossval", help="train tiny-speech without some speakers")
    _add_folders(crossed)
    crossed.add_argument("--out", type=Path, default=FOLDS, help="folder that keeps each fold")
    crossed.add_argument(
        "--folds", default="1,2,3,4,5,6", help="by number, or a corpus to leave out whole: 1,2,nemo"
    )
    crossed.add_argument(
        "--weights", help="file whose calibration the figures are of; default: the bundled one"
    )
    _add_recipe(crossed)
    ensemble = commands.add_parser("ensemble", help="fit how votes are combined, on held-out votes")
    ensemble_cli.add_ensemble(ensemble)
    evaluate = commands.add_parser("evaluate", help="measure weights and write the figures")
    _add_folders(evaluate)
    evaluate.add_argument("model", choices=sorted(BACKGROUNDS))
    evaluate.add_argument("--weights", type=Path, help="another file than the bundled one")
    return parser


def _add_recipe(command: argparse.ArgumentParser) -> None:
    command.add_argument("--steps", type=int, help="training steps; fewer to try things out")
    command.add_argument("--seed", type=int, help="another seed than the recipe's")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another value in the recipe, as schedule.rate=1e-3; VALUE is JSON",
    )


def _add_folders(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, default=DATA, help="folder with speech.csv and text/")
    command.add_argument("--cache", type=Path, default=CACHE, help="folder for what is made once")


def _train(args: argparse.Namespace) -> None:
    settings = [*_shortcuts(args), *args.set]
    path = _train_text(args, settings) if args.command == TEXT else _train_speech(args, settings)
    made_by = " ".join(["abhinaya train", args.command, *(f"--set {s}" for s in settings)])
    path.with_suffix(".json").unlink(missing_ok=True)  # it told of the weights before
    version = load(args.command, {"weights": str(path)}).card.version
    write_card(path, args.command, version, {}, made_by)
    how = "bench quality"
    if args.command == TEXT:
        how = f"train evaluate {TEXT} --weights {path}"
    _say(f"wrote {path}; measure it with: abhinaya {how}")


def _vote(args: argparse.Namespace) -> None:
    from abhinaya.train.tiny.vote import VoteRecipe, fit_vote  # torch, only for who asks

    recipe = changed(VoteRecipe(), args.set)
    _say(f"wrote {fit_vote(args.data, args.cache, args.out, recipe, _say)}")


def _train_text(args: argparse.Namespace, settings: list[str]) -> Path:
    if importlib.util.find_spec("onnx") is None:  # now, and not after ten minutes of training
        raise TrainingError("onnx is missing; install the extra: pip install 'abhinaya[train]'")
    from abhinaya.train.tiny.text import TextRecipe, train_and_write  # torch, only for who asks

    recipe = changed(TextRecipe(), settings)
    return train_and_write(args.data, args.cache, args.out, recipe, _say)


def _train_speech(args: argparse.Namespace, settings: list[str]) -> Path:
    from abhinaya.train.tiny.make import train_and_write
    from abhinaya.train.tiny.speech import RECIPES

    recipe = changed(RECIPES[args.command], settings)
    return train_and_write(args.command, args.data, args.cache, args.out, recipe, _say)


def _crossval(args: argparse.Namespace) -> None:
    from abhinaya.models.tiny.speech import SPEECH, Ears
    from abhinaya.train.tiny.crossval import crossval
    from abhinaya.train.tiny.speech import RECIPES

    recipe = changed(RECIPES[SPEECH], [*_shortcuts(args), *args.set])
    calibration = Ears(SPEECH, args.weights).settings
    folds = args.folds.split(",")
    for line in crossval(args.data, args.cache, args.out, recipe, calibration, folds, _say):
        _say(line)


def _shortcuts(args: argparse.Namespace) -> list[str]:
    """Write --steps and --seed as the settings of the recipe that they stand for."""
    found = []
    if args.steps is not None:
        other = "teacher.schedule" if args.command == TEXT else "plain"
        found += [f"{schedule}.steps={args.steps}" for schedule in ("schedule", other)]
    if args.seed is not None:
        found.append(f"seed={args.seed}")
    return found


def _evaluate(args: argparse.Namespace) -> None:
    if args.model != TEXT:
        raise TrainingError(
            f"evaluate {args.model}: the figures of voters that hear come from the whole monitor; "
            f"run abhinaya bench quality --data {args.data}"
        )
    from abhinaya.train.tiny.text_figures import text_figures

    path = args.weights or WEIGHTS / f"{TEXT}.onnx"
    voter = load(TEXT, {"weights": str(path)})
    figures = text_figures(voter, args.data, _say)
    card = measured(path, TEXT, voter.card.version, figures)
    print(card.read_text(encoding="utf-8"))


def _say(line: str) -> None:
    print(line, flush=True)
