"""What the command line says of inputs: flags, names, and what is wrong at first sight."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from abhinaya.models.plugins import plugins
from abhinaya.stream.errors import ConfigError, SourceError
from abhinaya.stream.feeds.follow import FeedRequest, Feeds
from abhinaya.stream.feeds.store import default_folders
from abhinaya.stream.run.plan import Input, distinct, name_of_input
from abhinaya.stream.settings.config import Config
from abhinaya.stream.settings.flags import add_flags, from_flags
from abhinaya.stream.sources.address import WEB, check_address, is_address, scheme_of
from abhinaya.stream.sources.base import InputConfig

_KEEP: Final = Path()
"""`--keep` without a folder."""


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name inputs and say how to hear them."""
    parser.add_argument(
        "inputs", nargs="*", metavar="INPUT", help="a file, an address (http, https, rtsp), or -"
    )
    parser.add_argument("--mic", action="store_true", help="listen to the microphone")
    parser.add_argument("--list-devices", action="store_true", help="list microphones, and leave")
    parser.add_argument("--name", action="append", default=[], help="of the stream, one an input")
    add_flags(parser.add_argument_group("input"), InputConfig, skip=("what",))
    feeds = parser.add_argument_group("feeds")
    feeds.add_argument(
        "--feed", action="append", default=[], metavar="URL", help="a podcast; repeatable"
    )
    feeds.add_argument(
        "--newest", type=int, default=1, metavar="N", help="episodes of each (default: %(default)s)"
    )
    feeds.add_argument(
        "--follow", action="store_true", help="then go on with those that come, until Ctrl-C"
    )
    feeds.add_argument(
        "--keep",
        type=Path,
        nargs="?",
        const=_KEEP,
        metavar="FOLDER",
        help="do not delete episodes that were heard (default: in the user's cache)",
    )
    feeds.add_argument(
        "--feed-state", type=Path, metavar="FOLDER", help="where it is noted what was heard"
    )


def read_inputs(args: argparse.Namespace) -> tuple[Input, ...]:
    """Return the inputs that were named, but for feeds.

    Raises:
        ConfigError: none was named, or names and inputs do not match.
        SourceError: one is not there, or of no protocol that is taken.

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
    for what in whats:
        # a misspelt name should not wait for the models to load
        if is_address(what):
            if scheme_of(what) not in plugins("sources"):
                check_address(what)
        elif what not in ("-", "mic") and not Path(what).exists():
            raise SourceError(what, "does not exist", "check the path")
    if whats.count("-") > 1:
        raise ConfigError("-", "standard input can be read once only")
    names = args.name or [name_of_input(what) for what in whats]
    return tuple(
        Input(name, from_flags(InputConfig, args, what=what))
        for name, what in zip(distinct(names), whats, strict=True)
    )


def open_feeds(
    args: argparse.Namespace, config: Config, environment: Mapping[str, str]
) -> Feeds | None:
    """Open the records of the feeds that were named; None if none was.

    Raises:
        ConfigError: a flag is wrong, or another run is at one of them.
        SourceError: an address is of no protocol that is taken.
        SinkError: a folder cannot be used.

    """
    if not args.feed:
        for flag in ("follow", "keep", "feed_state"):
            if getattr(args, flag) not in (None, False):
                name = flag.replace("_", "-")
                raise ConfigError(f"--{name}", "needs a feed", "add --feed URL")
        return None
    if args.newest < (0 if args.follow else 1):
        raise ConfigError(f"--newest {args.newest}", "leaves no episode to hear")
    for url in args.feed:
        if not is_address(url):
            raise SourceError(
                url, "is not an address", "give the http or https address of the feed"
            )
        check_address(url, WEB)
    if len(set(args.feed)) != len(args.feed):
        raise ConfigError("--feed", "names one feed twice")
    folders = default_folders(environment)
    if args.keep is not None:
        folders = replace(folders, kept=folders.cache / "kept" if args.keep == _KEEP else args.keep)
    if args.feed_state is not None:
        folders = replace(folders, records=args.feed_state)
    return Feeds(
        [FeedRequest(url, args.newest, args.follow) for url in args.feed],
        from_flags(InputConfig, args, what=""),
        folders,
        config.feeds,
        config.network,
    )
