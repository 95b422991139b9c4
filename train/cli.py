"""`abhinaya train`: from data to the weights the monitor loads, and their figures.

abhinaya train RECIPE --data MANIFEST --out DIR    see docs/training.md and `train list`
abhinaya train compact-speech, -text, -joint       the embedded models
abhinaya train evaluate MODEL                      measure an embedded model
abhinaya train pairs, ensemble                     what the voters' votes are combined by
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from abhinaya.models.errors import ModelError
from abhinaya.models.registry import load
from abhinaya.train import ensemble_cli, run_cli
from abhinaya.train.cards import BACKGROUNDS, measured, write_card
from abhinaya.train.compact_joint import JointRecipe, train_compact_joint
from abhinaya.train.compact_recipes import changed
from abhinaya.train.compact_speech import SpeechRecipe, train_compact_speech
from abhinaya.train.compact_text import TextRecipe, train_compact_text
from abhinaya.train.crossval import crossval
from abhinaya.train.data.clips import DataError
from abhinaya.train.errors import TrainingError
from abhinaya.train.evaluate import MEASURES

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
CACHE = Path("/tmp/abhinaya-cache")  # noqa: S108 - features and towers, remade when missing
COMMANDS = (*BACKGROUNDS, "crossval", "ensemble", "evaluate", "pairs")
"""What is no recipe of the trainer: the embedded models have a loop of their own (`loop.py`)."""
FOLDS = CACHE / "folds"
WEIGHTS = Path(__file__).resolve().parent.parent / "models" / "compact" / "weights"


def main(argv: list[str]) -> int:
    """Run one command; returns 0, or 1 with one line on standard error about what was wrong."""
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        return run_cli.main(argv)
    args = _parser().parse_args(argv)
    try:
        if args.command == "evaluate":
            _evaluate(args)
        elif args.command == "pairs":
            ensemble_cli.run_pairs(args, _say)
        elif args.command == "ensemble":
            ensemble_cli.run_ensemble(args, _say)
        elif args.command == "crossval":
            _crossval(args)
        else:
            _train(args)
    except (DataError, TrainingError, ModelError) as error:
        print(f"abhinaya train: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="abhinaya train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for model in BACKGROUNDS:
        command = commands.add_parser(model, help=f"train {model} and write its weights and card")
        _add_folders(command)
        command.add_argument("--out", type=Path, default=WEIGHTS, help="folder of the weights")
        _add_recipe(command)
    crossed = commands.add_parser("crossval", help="train compact-speech without some speakers")
    _add_folders(crossed)
    crossed.add_argument("--out", type=Path, default=FOLDS, help="folder that keeps each fold")
    crossed.add_argument(
        "--folds", default="1,2,3,4,5,6", help="by number, or a corpus to leave out whole: 1,2,nemo"
    )
    _add_recipe(crossed)
    pairs = commands.add_parser("pairs", help="let the embedded voters vote on made-up utterances")
    _add_folders(pairs)
    ensemble_cli.add_pairs(pairs)
    ensemble = commands.add_parser("ensemble", help="fit how votes are combined, on held-out votes")
    ensemble_cli.add_ensemble(ensemble)
    evaluate = commands.add_parser("evaluate", help="measure weights and write the figures")
    _add_folders(evaluate)
    evaluate.add_argument("model", choices=sorted(BACKGROUNDS))
    evaluate.add_argument("--weights", type=Path, help="another ONNX file than the bundled one")
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
    if importlib.util.find_spec("onnx") is None:  # now, and not after ten minutes of training
        raise TrainingError("onnx is missing; install the extra: pip install 'abhinaya[train]'")
    settings = [*_shortcuts(args), *args.set]
    if args.command == "compact-speech":
        recipe = changed(SpeechRecipe(), settings)
        path = train_compact_speech(args.data, args.cache, args.out, recipe, _say)
    elif args.command == "compact-text":
        text = changed(TextRecipe(), settings)
        path = train_compact_text(args.data, args.cache, args.out, text, _say)
    else:
        joint = changed(JointRecipe(), settings)
        path = train_compact_joint(args.data, args.cache, args.out, joint, _say)
    made_by = " ".join(["abhinaya train", args.command, *(f"--set {s}" for s in settings)])
    write_card(path, args.command, _version(path, args.command), {}, made_by)
    _say(f"wrote {path}; measure it with: abhinaya train evaluate {args.command} --weights {path}")


def _crossval(args: argparse.Namespace) -> None:
    recipe = changed(SpeechRecipe(), [*_shortcuts(args), *args.set])
    for line in crossval(args.data, args.cache, args.out, recipe, args.folds.split(","), _say):
        _say(line)


def _shortcuts(args: argparse.Namespace) -> list[str]:
    """Write --steps and --seed as the settings of the recipe that they stand for."""
    learners, seeds = {
        "compact-text": (("", "teacher."), ("",)),
        "compact-joint": (
            ("speech.", "speech.manner.", "text.", "text.teacher."),
            ("speech.", "text."),
        ),
    }.get(args.command, (("", "manner."), ("",)))
    found = []
    if args.steps is not None:
        found += [f"{learner}schedule.steps={args.steps}" for learner in learners]
    if args.seed is not None:
        found += [f"{learner}seed={args.seed}" for learner in seeds]
    return found


def _version(path: Path, model: str) -> str:
    return load(model, {"weights": str(path)}).card.version


def _evaluate(args: argparse.Namespace) -> None:
    path = args.weights or WEIGHTS / f"{args.model}.onnx"
    voter = load(args.model, {"weights": str(path)})
    figures = MEASURES[args.model](voter, args.data, _say)
    card = measured(path, args.model, voter.card.version, figures)
    print(card.read_text(encoding="utf-8"))


def _say(line: str) -> None:
    print(line, flush=True)
