"""`abhinaya models`: lists, downloads and tries models.

    list      every model, and whether its public files are on this machine
    show      one model: its files and options; its card, if it can be loaded
    pull      download public files
    check     load a model, count its weights, run it once; what a server of T1 can
    convert   rewrite a checkpoint as safetensors

Errors are one line on standard error. Exit code 2: wrong usage; 6: the model failed.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from abhinaya.models import registry
from abhinaya.models.base import Abstention, Card, Voter
from abhinaya.models.catalogue import CATALOGUE, Entry
from abhinaya.models.command_line import EXIT_USAGE, Parser
from abhinaya.models.errors import ModelError, OptionsError, RunError, UnknownModelError
from abhinaya.models.labels import ATTRIBUTES, Attributes
from abhinaya.models.text import say

EXIT_OK: Final = 0
EXIT_MODEL: Final = 6


def main(argv: Sequence[str] | None = None) -> int:
    """Run `abhinaya models`; return the exit code."""
    args = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], None] = args.command
    try:
        command(args)
    except UnknownModelError as error:
        return _fail(str(error), EXIT_USAGE)
    except ModelError as error:
        return _fail(str(error), EXIT_USAGE if isinstance(error, OptionsError) else EXIT_MODEL)
    return EXIT_OK


def _fail(line: str, code: int) -> int:
    say(f"abhinaya models: {line}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    about = "List, download and try the models that can vote."
    parser = Parser("abhinaya models", about)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(command: Callable[[argparse.Namespace], None], name: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=command.__doc__, description=command.__doc__)
        made.set_defaults(command=command)
        return made

    add(_list, "list")
    for command, name in ((_show, "show"), (_check, "check")):
        made = add(command, name)
        made.add_argument("name", help="of the model")
        made.add_argument(
            "--option", action="append", default=[], metavar="KEY=VALUE", help="as in a profile"
        )
    made.add_argument("--base-url", metavar="URL", help="of zero-shot's server, up to /v1")
    made.add_argument("--model", help="its name on the server; not needed if it has only one")
    made.add_argument("--requests", type=int, help="to measure the latency (10)")
    made = add(_pull, "pull")
    made.add_argument("names", nargs="+", metavar="NAME", help="of a model, or org/name on the Hub")
    made = add(_convert, "convert")
    made.add_argument("source", type=Path, help="a file, or a folder with one or many")
    made.add_argument("target", type=Path, help="ending in .safetensors")
    return parser


def _list(_: argparse.Namespace) -> None:
    """List every model: its needs, licence and size, and whether its files are here."""
    rows = [("NAME", "NEEDS", "PARAMETERS", "FILES", "LICENCE", "WHAT")]
    for name, entry in CATALOGUE.items():
        licences = dict.fromkeys(source.licence for source in entry.sources)
        needs, size = "+".join(entry.needs), _count(entry.parameters)
        licence = ", ".join(licences) or ("with the package" if entry.packaged else "its own")
        rows.append((name, needs, size, _presence(entry), licence, entry.what))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        say("  ".join([*cells, row[-1]]))


def _presence(entry: Entry) -> str:
    if entry.packaged:
        return "here"
    hub = [source for source in entry.sources if source.on_hub]
    if not hub:
        return "on a server"
    from abhinaya.models.hugging_face import cached  # slow to import

    here = sum(cached(source.repo) is not None for source in hub)
    state = "here" if here == len(hub) else f"{here} of {len(hub)}"
    return f"{state} + yours" if entry.own else state


def _show(args: argparse.Namespace) -> None:
    """Show one model: its files and options; its card, if it can be loaded as it is."""
    entry = _entry(args.name)
    say(f"{args.name}: {entry.what}", f"needs {' and '.join(entry.needs)}")
    for title, sources in (("loads", entry.sources), ("or", entry.others)):
        for source in sources:
            more = ", gated" if source.gated else ""
            more += ", forbids commercial use" if source.noncommercial else ""
            say(f"{title} {source.repo} ({source.licence}{more})")
    if entry.own:
        say(f"and yours: {entry.own}")
    module, attribute = registry.MODELS[args.name]
    options = inspect.signature(getattr(importlib.import_module(module), attribute)).parameters
    needed = [o.name for o in options.values() if o.default is o.empty]
    say("", "options")
    for option in options.values():
        default = "needed" if option.name in needed else f"default {option.default!r}"
        say(f"  {option.name}: {default}")
    if args.option or not needed:
        say("")
        _print_card(_load(args).card)


def _print_card(card: Card) -> None:
    limit = ", which forbids commercial use" if card.noncommercial else ""
    say(f"version {card.version}", f"licence {card.licence}{limit}")
    if card.labels:
        say(f"labels {', '.join(card.labels)}")
    if card.attributes:
        say(f"rates {', '.join(ATTRIBUTES)}")
    if card.sample_rate_hz is not None:
        longest = f", the first {card.longest_s:g} s" if card.longest_s is not None else ""
        say(f"audio {card.sample_rate_hz} Hz{longest}")
    if card.parameters is not None and card.memory_mb is not None:
        say(f"{card.parameters:,} parameters, {card.memory_mb:,.1f} MB")
    for note in card.notes:
        say(*textwrap.wrap(f"- {note}", 100, subsequent_indent="  "))


def _pull(args: argparse.Namespace) -> None:
    """Download the public files of models, except those that are already here."""
    from abhinaya.models.hugging_face import pull

    for name in args.names:
        if "/" in name:
            say(f"{name}: {pull(name)}")
            continue
        entry = _entry(name)
        for source in entry.sources:
            where = pull(source.repo) if source.on_hub else "not on the Hub; download it there"
            say(f"{source.repo}: {where}")
        if entry.own:
            say(f"{name} also needs files that are not published: {entry.own}")
        if not entry.sources:
            say(f"{name} has nothing to download")


def _check(args: argparse.Namespace) -> None:
    """Load a model, count its weights, and run it on a second of noise and a sentence.

    With --base-url: what the server of zero-shot can, and what would make it better.
    """
    from abhinaya.models.trial import attempt, fault_of_answer

    if args.base_url or args.model or args.requests is not None:
        _check_server(args)
        return
    begun = time.perf_counter()
    voter = _load(args)
    card, took_s = voter.card, time.perf_counter() - begun
    weights = "loaded"
    if card.tensors is not None and card.parameters is not None:
        weights = (
            f"{card.tensors:,} weights, {card.parameters:,} parameters, every key accounted for"
        )
    say(f"{args.name}: {weights}, in {took_s:.1f} s")
    trial = attempt(voter)
    if isinstance(trial.answer, Abstention):
        raise RunError(args.name, trial.answer.reason, "the model loads, but gave no vote")
    if fault := fault_of_answer(voter, trial.answer):
        raise RunError(args.name, fault, "install the model again: its files are damaged")
    rated = trial.answer.attributes
    votes = f"votes {trial.answer.label}" if trial.answer.label else "gives no label"
    rates = f", rates {Attributes(*rated)}" if rated is not None else ""
    say(f"{votes}{rates}, in {trial.again_ms:.0f} ms (first {trial.first_ms:.0f} ms)")
    for label, share in zip(card.labels, _shares(trial.answer.probabilities, card), strict=False):
        say(f"  {label:<9}{share:.3f}")


def _check_server(args: argparse.Namespace) -> None:
    from abhinaya.models.served.examine import REQUESTS, examine, lines_of, remedies

    options = dict(_option(text) for text in args.option)
    options |= {"base_url": args.base_url} if args.base_url else {}
    options |= {"model": args.model} if args.model else {}
    requests = REQUESTS if args.requests is None else args.requests
    if args.name != "zero-shot":
        flags = "--base-url, --model and --requests"
        raise OptionsError(flags, f"{args.name} has no server", "check zero-shot")
    if "base_url" not in options:
        raise OptionsError("check zero-shot", "the address is missing", "add --base-url URL")
    if not 1 <= requests <= 1000:
        raise OptionsError(f"--requests {requests}", "is not from 1 to 1000", "use 10")
    found = examine(options, requests, lambda given: registry.load("zero-shot", given))
    say(*lines_of(found))
    for remedy in remedies(found):
        say(*textwrap.wrap(f"- {remedy}", 100, subsequent_indent="  "))
    if not found.votes:
        raise RunError("zero-shot", "no reply was a vote", "see docs/serving-t1.md")


def _shares(probabilities: tuple[float, ...] | None, card: Card) -> list[float]:
    from abhinaya.models.labels import LABELS

    if probabilities is None:
        return []
    return [p for label, p in zip(LABELS, probabilities, strict=True) if label in card.labels]


def _convert(args: argparse.Namespace) -> None:
    """Rewrite a checkpoint as one safetensors file with the same keys; run no code in it."""
    if args.target.suffix != ".safetensors":
        raise OptionsError(args.target, "does not end in .safetensors", "name it so")
    from abhinaya.models.checkpoint import convert

    made = convert(args.source, args.target)
    say(f"{args.target}: {len(made.tensors):,} weights, {args.target.stat().st_size:,} bytes")


def _entry(name: str) -> Entry:
    if name not in CATALOGUE:
        raise registry.unknown(name)
    return CATALOGUE[name]


def _load(args: argparse.Namespace) -> Voter:
    return registry.load(args.name, dict(_option(text) for text in args.option))


def _option(text: str) -> tuple[str, Any]:
    """Parse KEY=VALUE; a value that is valid JSON (a number, true, a table) is decoded."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise OptionsError(f"--option {text}", "is not KEY=VALUE", "write for example device=cpu")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _count(parameters: int | None) -> str:
    if parameters is None:
        return "-"
    if parameters >= 1e9:
        return f"{parameters / 1e9:.1f} B"
    return f"{parameters / 1e6:.0f} M" if parameters >= 1e7 else f"{parameters / 1e6:.1f} M"
