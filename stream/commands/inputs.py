"""Inputs on the command line: flags, names, and early checks."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from abhinaya.models.text import distinct, short_name
from abhinaya.stream.commands.checks import check_flags
from abhinaya.stream.errors import ConfigError, SourceError
from abhinaya.stream.feeds.follow import FeedRequest, Feeds
from abhinaya.stream.feeds.store import default_folders
from abhinaya.stream.run.plan import Input, name_of_input
from abhinaya.stream.settings.config import Config
from abhinaya.stream.settings.flags import add_flags, from_flags
from abhinaya.stream.sources.address import WEB, check_address, is_address, shown
from abhinaya.stream.sources.base import InputConfig

_KEEP: Final = Path()
"""Value of `--keep` without a folder."""


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Add the flags for inputs and feeds."""
    parser.add_argument(
        "inputs", nargs="*", metavar="INPUT", help="a file, an address (http, https, rtsp), or -"
    )
    parser.add_argument("--mic", action="store_true", help="listen to the microphone")
    parser.add_argument("--list-devices", action="store_true", help="list microphones, and exit")
    parser.add_argument(
        "--name", action="append", default=[], help="name of a stream; give one for each input"
    )
    add_flags(parser.add_argument_group("input"), InputConfig, skip=("what", "label"))
    feeds = parser.add_argument_group("feeds")
    feeds.add_argument(
        "--feed", action="append", default=[], metavar="URL", help="a podcast feed; repeatable"
    )
    feeds.add_argument("--newest", type=int, metavar="N", help="episodes of each (default: 1)")
    feeds.add_argument(
        "--follow", action="store_true", help="also process new episodes, until Ctrl-C"
    )
    feeds.add_argument(
        "--keep",
        type=Path,
        nargs="?",
        const=_KEEP,
        metavar="FOLDER",
        help="keep the audio of processed episodes (default: in the user's cache)",
    )
    feeds.add_argument(
        "--feed-state",
        type=Path,
        metavar="FOLDER",
        help="folder for the records of processed episodes",
    )


def read_inputs(args: argparse.Namespace) -> tuple[Input, ...]:
    """Return the inputs of the command line, without feeds.

    Raises:
        ConfigError: there is no input, names and inputs do not match, or a flag has no effect.

    """
    whats = [*args.inputs, *(["mic"] if args.mic else [])]
    if not whats and not args.feed:
        raise ConfigError("the input", "is missing", "name a file or address, or use --mic")
    if args.name and len(args.name) != len(whats):
        raise ConfigError(
            f"--name {' '.join(args.name)}",
            f"names {len(args.name)} of {len(whats)} inputs",
            "give one --name for each",
        )
    check_flags(args, whats)
    names = args.name or [name_of_input(what) for what in whats]
    return tuple(
        Input(name, from_flags(InputConfig, args, what=what))
        for name, what in zip(distinct(map(short_name, names)), whats, strict=True)
    )


def open_feeds(
    args: argparse.Namespace,
    config: Config,
    environment: Mapping[str, str],
    taken: Iterable[str],
) -> Feeds | None:
    """Return the feeds of the command line, opened; None without `--feed`.

    `taken` are the names of the other inputs.

    Raises:
        ConfigError: a flag is wrong, or another run uses one of the feeds.
        SourceError: an address is neither http nor https.
        SinkError: a folder cannot be read or written.

    """
    if not args.feed:
        return None
    newest = 1 if args.newest is None else args.newest
    if newest < (least := 0 if args.follow else 1):
        remedy = f"give {least} or more"
        raise ConfigError(f"--newest {newest}", "leaves no episode to process", remedy)
    for url in args.feed:
        if not is_address(url):
            raise SourceError(
                shown(url), "is not an address", "give the http or https address of the feed"
            )
        check_address(url, WEB)
    if len(set(args.feed)) != len(args.feed):
        raise ConfigError("--feed", "names one feed twice", "remove one of the two")
    folders = default_folders(environment)
    if args.keep is not None and config.compliance.mode:
        mode = config.compliance.mode
        raise ConfigError(
            "--keep", f"keeps audio, which --compliance {mode} does not allow", "leave it out"
        )
    if args.keep is not None:
        folders = replace(folders, kept=folders.cache / "kept" if args.keep == _KEEP else args.keep)
    if args.feed_state is not None:
        folders = replace(folders, records=args.feed_state)
    return Feeds(
        [FeedRequest(url, newest, args.follow) for url in args.feed],
        from_flags(InputConfig, args, what=""),
        folders,
        config.feeds,
        config.network,
        taken,
    )
