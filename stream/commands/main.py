"""`abhinaya NAME`: all commands but `abhinaya-stream`.

Commands of other folders are found through entry points, so that this module does not import them.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from abhinaya.models.command_line import Parser, version
from abhinaya.models.errors import naming_the_extra, near_miss
from abhinaya.models.text import say, short_name
from abhinaya.models.toml import as_toml
from abhinaya.stream.commands.stream import add_keys, guarded, keys_of
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.hub import main as hub
from abhinaya.stream.log import add_log_flags, open_log
from abhinaya.stream.node import main as node
from abhinaya.stream.settings import profile as profile_files
from abhinaya.stream.settings.environment import add_line_up, load_line_up, trace_line_up
from abhinaya.stream.settings.flags import describe_settings
from abhinaya.stream.sources.address import is_address
from abhinaya.stream.wire.child import run_alone
from abhinaya.stream.wire.keys import HUB, ROLES, make_keys
from abhinaya.stream.wire.sockets import check_client

FLAGS: Final = ("--version", "-h", "--help")

GROUP: Final = "abhinaya.commands"

OTHERS: Final = {
    "bench": "Measure this machine",
    "data": "Prepare, check, transcribe and count training data",
    "eval": "Evaluate models or predictions against labels",
    "eval emobox": "Score models by the protocol of EmoBox, beside its figures",
    "models": "List, show, fetch, check and convert models",
    "plan": "Plan machines, GPUs and cells for a number of streams",
    "predict": "Label the clips of a manifest, also of a hidden test",
    "refine": "Let a language model revise predictions",
    "reproduce": "Reproduce a system of the challenge, from the corpus to its tables",
    "train": "Train models by recipes, and the embedded ones",
}
"""Descriptions of the commands of other folders."""

FILES: Final = {
    "cluster": "Run cells of hubs and nodes, on this machine or on several",
    "convert": "Convert the JSON lines of a run into another format",
    "doctor": "Check that this machine can run a profile; print what is missing",
    "report": "Make one HTML page from the JSON lines of a run",
    "serve": "Serve a web console and an API for the monitor",
    "transcribe": "Write transcripts of recordings, without votes",
}
"""Commands with a module of their own in this folder; it is imported when the command runs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded("abhinaya", lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    own: dict[str, Callable[[list[str]], int]] = {
        "hub": _hub,
        "node": _node,
        "keys": _keys,
        "profiles": _profiles,
        "settings": _settings,
        "show-config": _show_config,
    }
    others = {e.name: e for e in importlib.metadata.entry_points(group=GROUP)}
    names = {*own, *FILES, *others}
    words = 2 if " ".join(arguments[:2]) in others else 1  # a command may be of two words
    name, rest = " ".join(arguments[:words]), arguments[words:]
    if name == FLAGS[0]:
        print(f"abhinaya {version()}")
        return 0
    if name in ("", *FLAGS[1:]):
        print("usage: abhinaya COMMAND ...\n       abhinaya --version\n")
        abouts = OTHERS | FILES | {n: (f.__doc__ or "").rstrip(".") for n, f in own.items()}
        for known in sorted(names):
            print(f"  {known:12} {abouts.get(known, '')}")
        return 0 if name else ConfigError.exit_code
    if name in own:
        return own[name](rest)
    if name in FILES:
        return int(importlib.import_module(f"abhinaya.stream.commands.{name}").main(rest))
    if name in others:
        with naming_the_extra(f"abhinaya {name}"):
            command: Callable[[Sequence[str]], int] = others[name].load()
            return command(rest)
    if is_address(name) or Path(name).is_file():
        raise ConfigError(f"command {name!r}", "is an input", f"use abhinaya-stream {name!r}")
    raise ConfigError(f"command {name!r}", "unknown", near_miss(name, {*names, *FLAGS}))


def _hub(arguments: list[str]) -> int:
    """Run a hub that nodes and inputs on other machines connect to."""
    parser = _parser("hub", _hub)
    parser.add_argument("endpoint", help="tcp://ADDRESS:PORT or ipc://DIRECTORY")
    _add_common(parser)
    args = parser.parse_args(arguments)
    open_log(args, "hub", {})
    run, keys = load_line_up(args), keys_of(args.keys, "hub")
    return run_alone("hub", lambda stop: hub.serve(run, args.endpoint, stop, keys), args.alive)


def _node(arguments: list[str]) -> int:
    """Run one node of a hub on another machine."""
    parser = _parser("node", _node)
    parser.add_argument("service", help="name of a voter of the profile, or `asr`")
    parser.add_argument("endpoint", help="endpoint of the hub")
    parser.add_argument("--name", help="name of this node (default: service, host and process)")
    _add_common(parser)
    args = parser.parse_args(arguments)
    open_log(args, args.service, {})
    run = load_line_up(args)
    name = short_name(args.name or f"{args.service}-{os.uname().nodename}-{os.getpid()}")
    keys = keys_of(args.keys, args.key_name)
    check_client(args.endpoint, keys)  # before the models are loaded
    patience_s = run.deadlines.task_s
    return run_alone(
        name,
        lambda stop: node.serve(run, name, args.service, args.endpoint, stop, keys, patience_s),
        args.alive,
    )


def _keys(arguments: list[str]) -> int:
    """Create the keys with which a hub and its clients identify each other."""
    parser = _parser("keys", _keys)
    parser.add_argument("directory", type=Path)
    parser.add_argument("names", nargs="+", help="`hub`, and a name for each client")
    parser.add_argument(
        "--role",
        choices=ROLES,
        help="rights of the clients: input (send streams and record them), node, reader (read all "
        "events), operator (everything); of a key that exists, the role is changed",
    )
    args = parser.parse_args(arguments)
    if not args.role and set(args.names) != {HUB}:
        raise ConfigError("abhinaya keys", "a client needs a role", f"--role {'|'.join(ROLES)}")
    for name in args.names:
        new = make_keys(args.directory, name, "" if name == HUB else args.role)
        secret = f" (public), {args.directory / name}.key_secret" if new else f": role {args.role}"
        say(f"{args.directory / name}.key{secret}")
    say("the hub's machine needs hub.key_secret and every client's .key, with its role;")
    print("a client's machine needs its own .key_secret and hub.key, and nothing else")
    return 0


def _profiles(arguments: list[str]) -> int:
    """List the profiles of the package."""
    _parser("profiles", _profiles).parse_args(arguments)
    for name in profile_files.profiles():
        run = profile_files.load(name)
        voters = ", ".join(f"{v} {w.model}" for v, w in run.voters.items())
        say(f"{name}: {voters}; transcriber: {run.asr.model if run.asr else 'none'}")
    return 0


def _settings(arguments: list[str]) -> int:
    """List every setting of a profile, with its default."""
    _parser("settings", _settings).parse_args(arguments)
    for key, default, doc in describe_settings():
        say(f"{key} = {default}", f"    {doc}")
    return 0


def _show_config(arguments: list[str]) -> int:
    """Print a profile with all changes, as a file that can be loaded again."""
    parser = _parser("show-config", _show_config)
    add_line_up(parser)
    args = parser.parse_args(arguments)
    traced = trace_line_up(args.profile, args.settings, os.environ)
    title = f"abhinaya show-config: {traced.config.profile}"
    print(as_toml(title, traced.config, traced.origins), end="")
    return 0


def _parser(name: str, command: Callable[[list[str]], int]) -> Parser:
    return Parser(f"abhinaya {name}", command.__doc__)


def _add_common(parser: argparse.ArgumentParser) -> None:
    add_line_up(parser)
    add_log_flags(parser)
    parser.add_argument(
        "--alive",
        type=_file_to_be,
        metavar="FILE",
        help="touch this file each half second from the moment it serves, for a probe",
    )
    parser.set_defaults(log_level="info")  # nobody looks at this process: its log is all there is
    add_keys(parser)


def _file_to_be(text: str) -> Path:
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path.parent} is not a folder")
    return path
