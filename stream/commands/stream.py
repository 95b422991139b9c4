"""`abhinaya-stream`: parse the flags, run the monitor, and print errors."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NoReturn

from abhinaya.models.command_line import Parser
from abhinaya.models.errors import MissingPackageError
from abhinaya.models.interrupts import INTERRUPTS, exit_code, exit_code_of
from abhinaya.models.text import say, say_traceback
from abhinaya.stream.cells.source import (
    TOKEN,
    CellSource,
    FixedCells,
    check_cells,
    open_source,
)
from abhinaya.stream.commands.checks import (
    check_outputs,
    fault_of,
    faults_of_models,
    unpinned_models,
)
from abhinaya.stream.commands.inputs import add_inputs, open_feeds, read_inputs
from abhinaya.stream.errors import (
    EXIT_OK,
    AbhinayaError,
    ModelError,
    NetworkError,
    SinkError,
    SourceError,
)
from abhinaya.stream.front.vad import find_model
from abhinaya.stream.log import add_log_flags, open_log
from abhinaya.stream.run.directory import logs_kept, make_kept, remove_old, run_directory
from abhinaya.stream.run.monitor import FINISH_S, Run
from abhinaya.stream.run.plan import Plan
from abhinaya.stream.settings.config import Config
from abhinaya.stream.settings.environment import add_line_up, load_line_up
from abhinaya.stream.settings.rule_file import with_rules
from abhinaya.stream.sinks.alerts.sink import Alerts, open_senders
from abhinaya.stream.sinks.export.formats import SUFFIXES
from abhinaya.stream.sinks.logged import Logged
from abhinaya.stream.sinks.open import open_sinks
from abhinaya.stream.wire.keys import Keys

EPILOG = """\
examples:
  abhinaya-stream call.wav                         one label a segment, as the file is read
  abhinaya-stream call.wav --channels split --channel-names agent,customer
  abhinaya-stream --mic                            until Ctrl-C
  abhinaya-stream https://host/talk.mp3 rtsp://camera/audio   addresses (docs/inputs.md)
  abhinaya-stream --feed https://host/podcast.xml --newest 3     podcasts; --follow
  ffmpeg -i INPUT -f wav - | abhinaya-stream -     standard input
  abhinaya-stream a.mp3 b.mp3 --format jsonl --output events.jsonl

exit codes: 0 done, 2 wrong usage, 3 an input cannot be read, 4 results cannot be written,
  5 a process died too often, 6 a model is missing or not allowed, 7 network,
  128 + its number after a signal: 130 Ctrl-C, 143 SIGTERM
"""


OUTPUT_HELP = f"also write a file; its suffix is the format: {', '.join(SUFFIXES)}; repeatable"


def main(argv: Sequence[str] | None = None) -> int:
    """Run `abhinaya-stream`; return the exit code."""
    return guarded("abhinaya-stream", lambda: _main(argv))


def guarded(program: str, body: Callable[[], int]) -> int:
    """Run `body`; turn an error or a signal into one line on standard error and an exit code."""
    try:
        with INTERRUPTS.raising():
            return body()
    except AbhinayaError as error:
        say(f"{program}: {error}", file=sys.stderr)
        # the terminal that has gone is the signal
        hung_up = INTERRUPTS.number == signal.SIGHUP and isinstance(error, SinkError)
        return exit_code(INTERRUPTS.number) if hung_up else error.exit_code
    except MissingPackageError as error:
        say(f"{program}: {error}", file=sys.stderr)
        return ModelError.exit_code
    except KeyboardInterrupt as stopped:
        say(f"{program}: {stopped or 'stopped'}", file=sys.stderr)
        return exit_code_of(stopped)
    except BrokenPipeError:  # the reader of our output has ended, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SinkError.exit_code
    except Exception as error:  # a bug: the user gets a line, and the traceback goes to a file
        say(
            f"{program}: stopped on an unexpected {type(error).__name__}: {error}; "
            f"please report it{_kept_traceback()}",
            file=sys.stderr,
        )
        return AbhinayaError.exit_code


def _kept_traceback() -> str:
    """Write the traceback to a file; return ` with FILE`, nothing if no folder can be written."""
    try:
        with (make_kept() / "traceback.log").open("w", encoding="utf-8") as log:
            say_traceback(log)
    except OSError:
        return ""
    return f" with {log.name}"


def _main(argv: Sequence[str] | None) -> int:
    args = _parser().parse_args(argv)
    if args.list_devices:
        return _list_devices()
    log = open_log(args)
    config = with_rules(load_line_up(args), args.rules)
    senders = open_senders(config.rules, os.environ)
    inputs = read_inputs(args)
    cells, keys = hubs_of("abhinaya-stream", args.hub, args, config)
    faults = {item: fault for item in inputs if (fault := fault_of(item))}
    readable = tuple(item for item in inputs if item not in faults)
    if faults and not readable and not args.feed:
        refuse("abhinaya-stream", faults.values())
    check_outputs(args, inputs)
    with ExitStack() as stack:
        feeds = open_feeds(args, config, os.environ, [item.name for item in inputs])
        if feeds is not None:
            stack.enter_context(closing(feeds))
        plan = Plan(
            config,
            readable,
            cells,
            args.accept_noncommercial,
            feeds,
            args.follow,
            tuple(faults.values()),
            keys=keys,
        )
        sinks = stack.enter_context(
            closing(open_sinks(args.format, args.output, args.view, append=args.append))
        )
        alerts = stack.enter_context(closing(Alerts(config.rules, sinks.all, senders)))
        remove_old(config.supervise.logs_days)
        directory = stack.enter_context(run_directory())
        logged = (Logged(),) if log is not None else ()
        stack.enter_context(logs_kept(directory, "abhinaya-stream"))
        run = Run(plan, directory, (*sinks.all, alerts, *logged), sinks.observer)
        # from here on everything ends in order: the first signal also lets the outputs be finished
        with INTERRUPTS.counting(plan.config.supervise.drain_s + FINISH_S, 1), stack.pop_all():
            code = run.run()
        return sinks.fault.exit_code if sinks.fault else code


def hubs_of(
    program: str, endpoint: str | None, args: argparse.Namespace, config: Config
) -> tuple[CellSource | None, Keys | None]:
    """Return the hubs that others run, and our keys; without such hubs, check our own models.

    Raises:
        AbhinayaError: the map, the keys or the models cannot be used.

    """
    if endpoint or args.cells:
        keys = keys_of(args.keys, args.key_name)
        cells = FixedCells(endpoint) if endpoint else open_source(args.cells, os.environ)
        check_cells(cells.current, keys)
        if cells.current.choose("") is None:
            raise NetworkError(f"map of cells {args.cells}", "has no open cell", "start one")
        return cells, keys
    find_model()
    if wrong := [*faults_of_models(config, args.accept_noncommercial)]:
        refuse(program, wrong)
    for text in unpinned_models(config):
        say(f"{program}: {text}", file=sys.stderr)
    return None, None


def refuse(program: str, faults: Iterable[AbhinayaError]) -> NoReturn:
    """Raise the last of several errors; the others are printed."""
    *others, last = faults
    for fault in others:
        say(f"{program}: {fault}", file=sys.stderr)
    raise last


def add_cells(parser: argparse._ActionsContainer) -> None:
    """Add the flag for the hubs of a cluster."""
    parser.add_argument(
        "--cells",
        metavar="FILE|URL",
        help="use the hubs of a cluster: a map of cells, or the gateway that serves it (its token "
        f"in ${TOKEN}; docs/cells.md)",
    )


def add_keys(parser: argparse._ActionsContainer) -> None:
    """Add the flags for the CURVE keys of a hub on another machine."""
    add = parser.add_argument
    add("--keys", type=Path, metavar="DIRECTORY", help="CURVE keys, for a hub on another machine")
    add("--key-name", metavar="NAME", help="this machine's key (default: the only client there)")


def keys_of(folder: Path | None, name: str | None) -> Keys | None:
    """Return the keys `name` in a folder; None without a folder."""
    return Keys(folder, name or "") if folder else None


def _parser() -> Parser:
    parser = Parser(
        "abhinaya-stream",
        "Label each segment of speech with one of eight emotions, in real time.",
        epilog=EPILOG,
    )
    add_inputs(parser)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--format", choices=("lines", "jsonl"), default="lines", help="format of standard output"
    )
    output.add_argument(
        "--output", action="append", default=[], type=Path, metavar="FILE", help=OUTPUT_HELP
    )
    output.add_argument("--append", action="store_true", help="append to each --output FILE.jsonl")
    view = output.add_mutually_exclusive_group()
    view.add_argument(
        "--live",
        dest="view",
        action="store_const",
        const="live",
        help="show every input in the live view (default: from the first live stream on)",
    )
    view.add_argument(
        "--plain", dest="view", action="store_const", const="plain", help="lines, no live view"
    )
    parser.set_defaults(view="auto")
    add_log_flags(parser.add_argument_group("log"))
    run = parser.add_argument_group("line-up")
    add_line_up(run)
    run.add_argument(
        "--rules", type=Path, metavar="FILE", help="raise alerts by these rules (docs/rules.md)"
    )
    run.add_argument(
        "--min-confidence",
        action="append",
        dest="settings",
        type="vote.min_confidence={}".format,
        metavar="P",
        help="use the label `unknown` below this confidence, in [0, 1]",
    )
    run.add_argument(
        "--accept-noncommercial", action="store_true", help="your use is not commercial"
    )
    hubs = run.add_mutually_exclusive_group()
    hubs.add_argument("--hub", metavar="ENDPOINT", help="use a running hub")
    add_cells(hubs)
    add_keys(run)
    return parser


def _list_devices() -> int:
    # PortAudio is loaded only when it is needed
    from abhinaya.stream.sources.microphone import list_devices

    devices = list_devices()
    if not devices:
        raise SourceError("microphone", "no device can record", "plug one in, or give a file")
    for device in devices:
        mark = " (default)" if device.default else ""
        say(f"{device.number}: {device.name}, {device.channels} channels{mark}")
    return EXIT_OK
