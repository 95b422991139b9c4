"""`abhinaya-stream`: what the person asked for, and the only place that prints errors."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from abhinaya.stream.alerts.sink import Alerts, open_couriers
from abhinaya.stream.environment import add_line_up, load_line_up
from abhinaya.stream.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    AbhinayaError,
    ConfigError,
    SinkError,
    SourceError,
)
from abhinaya.stream.flags import add_flags, from_flags
from abhinaya.stream.rule_file import with_rules
from abhinaya.stream.run import Input, Plan, Remote, Run, run_directory
from abhinaya.stream.sinks.formats import SUFFIXES
from abhinaya.stream.sinks.open import open_sinks
from abhinaya.stream.sockets import Keys
from abhinaya.stream.sources.address import check_address, is_address, name_of
from abhinaya.stream.sources.base import InputConfig

EPILOG = """\
examples:
  abhinaya-stream call.wav                         one label a segment, as the file is read
  abhinaya-stream call.wav --channels split --channel-names agent,customer
  abhinaya-stream --mic                            until Ctrl-C
  abhinaya-stream https://host/talk.mp3 rtsp://camera/audio   addresses (docs/inputs.md)
  ffmpeg -i INPUT -f wav - | abhinaya-stream -     standard input
  abhinaya-stream a.mp3 b.mp3 --format jsonl --output events.jsonl

exit codes: 0 done, 2 wrong usage, 3 an input cannot be read, 4 results cannot be written,
  5 a process died too often, 6 a model is missing or not allowed, 7 network, 130 interrupted
"""


OUTPUT_HELP = f"a file beside it, in the format of its suffix: {', '.join(SUFFIXES)}; repeatable"


def main(argv: Sequence[str] | None = None) -> int:
    """Run `abhinaya-stream`; give the exit code."""
    return guarded("abhinaya-stream", lambda: _main(argv))


def guarded(program: str, body: Callable[[], int]) -> int:
    """Run `body`; what it raises becomes one line on standard error and an exit code."""
    try:
        return body()
    except AbhinayaError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SinkError.exit_code
    except Exception as error:  # a fault of ours: the person gets a line, the traceback a file
        with tempfile.NamedTemporaryFile(
            "w", prefix="abhinaya-", suffix=".log", delete=False
        ) as log:
            traceback.print_exc(file=log)
        print(
            f"{program}: stopped on an unexpected {type(error).__name__}: {error}; "
            f"please report it with {log.name}",
            file=sys.stderr,
        )
        return AbhinayaError.exit_code


def _main(argv: Sequence[str] | None) -> int:
    args = _parser().parse_args(argv)
    if args.list_devices:
        return _list_devices()
    config = with_rules(load_line_up(args), args.rules)
    couriers = open_couriers(config.rules, os.environ)
    inputs = _inputs(args)
    remote = None
    if args.hub:
        remote = Remote(args.hub, Keys(args.keys, args.key_name) if args.keys else None)
    plan = Plan(config, inputs, remote, args.accept_noncommercial)
    with (
        closing(open_sinks(args.format, args.output, args.view)) as sinks,
        closing(Alerts(config.rules, sinks.all, couriers)) as alerts,
        run_directory() as directory,
    ):
        code = Run(plan, directory, (*sinks.all, alerts), sinks.observer).run()
        return sinks.fault.exit_code if sinks.fault else code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="abhinaya-stream",
        description="Say which of eight emotions each stretch of speech carries, as it is spoken.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "inputs", nargs="*", metavar="INPUT", help="a file, an address (http, https, rtsp), or -"
    )
    parser.add_argument("--mic", action="store_true", help="listen to the microphone")
    parser.add_argument("--list-devices", action="store_true", help="list microphones, and leave")
    parser.add_argument("--name", action="append", default=[], help="of the stream, one an input")
    add_flags(parser.add_argument_group("input"), InputConfig, skip=("what",))
    output = parser.add_argument_group("output")
    output.add_argument(
        "--format", choices=("lines", "jsonl"), default="lines", help="of standard output"
    )
    output.add_argument(
        "--output", action="append", default=[], type=Path, metavar="FILE", help=OUTPUT_HELP
    )
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
        help="label `unknown` what is less confident than P, in [0, 1]",
    )
    run.add_argument("--accept-noncommercial", action="store_true", help="your use is none")
    run.add_argument("--hub", metavar="ENDPOINT", help="use a hub that runs already")
    run.add_argument("--keys", type=Path, metavar="DIRECTORY", help="CURVE keys for that hub")
    run.add_argument("--key-name", default="client", help="which of them (default: %(default)s)")
    return parser


def _inputs(args: argparse.Namespace) -> tuple[Input, ...]:
    whats = [*args.inputs, *(["mic"] if args.mic else [])]
    if not whats:
        raise ConfigError("the input", "is missing", "name a file or address, or use --mic")
    if args.name and len(args.name) != len(whats):
        raise ConfigError(
            f"--name {' '.join(args.name)}",
            f"names {len(args.name)} of {len(whats)} inputs",
            "give one --name for each",
        )
    for what in whats:
        # a misspelt name should not wait for the models to load
        if is_address(what):
            check_address(what)
        elif what not in ("-", "mic") and not Path(what).exists():
            raise SourceError(what, "there is no such file", "check the path")
    if whats.count("-") > 1:
        raise ConfigError("-", "standard input can be read once only")
    names = args.name or [_name(what) for what in whats]
    return tuple(
        Input(name, from_flags(InputConfig, args, what=what))
        for name, what in zip(_distinct(names), whats, strict=True)
    )


def _name(what: str) -> str:
    if is_address(what):
        return name_of(what)
    return {"-": "stdin", "mic": "mic"}.get(what) or Path(what).stem or what


def _distinct(names: Sequence[str]) -> list[str]:
    """Give names that differ, since they identify the streams."""
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        distinct.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return distinct


def _list_devices() -> int:
    # PortAudio is looked for only when it is wanted
    from abhinaya.stream.sources.microphone import list_devices

    devices = list_devices()
    if not devices:
        raise SourceError("microphone", "no device can record", "plug one in, or give a file")
    for device in devices:
        mark = " (default)" if device.default else ""
        print(f"{device.number}: {device.name}, {device.channels} channels{mark}")
    return EXIT_OK
