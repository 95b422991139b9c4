"""`abhinaya serve`: the monitor with a web console and an API."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from abhinaya.models.command_line import Parser
from abhinaya.models.errors import naming_the_extra
from abhinaya.models.text import say
from abhinaya.stream.commands.stream import add_cells, add_keys, hubs_of, keys_of
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.log import add_log_flags, open_log
from abhinaya.stream.settings.environment import add_line_up, load_line_up
from abhinaya.stream.settings.rule_file import with_rules
from abhinaya.stream.sinks.base import Sink
from abhinaya.stream.sinks.logged import Logged
from abhinaya.stream.wire.child import Stage

HOST: Final = "127.0.0.1"
PORT: Final = 8377
DATA: Final = Path("~/.local/share/abhinaya")

EPILOG: Final = """\
examples:
  abhinaya serve                       console and API at http://127.0.0.1:8377/
  abhinaya serve --demo                also play the demo call
  abhinaya serve token desk --role reader --days 90
  abhinaya serve --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem
  abhinaya serve --join tcp://hub:9000 --keys keys/
see docs/serve.md
"""


def main(argv: Sequence[str]) -> int:
    """Run `abhinaya serve`; return the exit code."""
    with naming_the_extra("abhinaya serve"):
        return _token(argv[1:]) if argv[:1] == ["token"] else _serve(argv)


def _serve(argv: Sequence[str]) -> int:
    args = _parser().parse_args(argv)
    from abhinaya.stream.serve.main import Place, serve

    if args.verify_audit:
        return _verify(args.data.expanduser())
    if (args.tls_cert is None) != (args.tls_key is None):
        raise ConfigError("TLS", "needs a certificate and its key", "give --tls-cert and --tls-key")
    log = open_log(args)
    config = with_rules(load_line_up(args), args.rules)
    tls = (args.tls_cert, args.tls_key) if args.tls_cert else None
    place = Place(args.host, args.port, args.data.expanduser(), tls, tuple(args.trusted_proxy))
    cells, keys = hubs_of("abhinaya serve", args.join, args, config)
    with ExitStack() as stack:
        more: list[Sink] = [Logged()] if log is not None else []
        if args.traces:
            from abhinaya.stream.serve.telemetry.traces import open_traces

            more.append(stack.enter_context(closing(open_traces(args.traces, config.profile))))
        return serve(
            config,
            place,
            Said(),
            cells=cells,
            keys=keys,
            reader=keys_of(args.keys, args.reader_key or args.key_name),
            accept_noncommercial=args.accept_noncommercial,
            plays_demo=args.demo,
            more=more,
        )


class Said:
    """Shows the state of the processes as lines on standard error."""

    def __init__(self) -> None:
        self._loading = False

    def loading(self, stages: Mapping[str, Stage]) -> None:
        """Say once that processes are not ready yet."""
        if not self._loading:
            say("abhinaya serve: loading the models", file=sys.stderr)
        self._loading = True

    def trouble(self, message: str) -> None:
        """Show a warning."""
        say(f"abhinaya serve: {message}", file=sys.stderr)


def _token(argv: Sequence[str]) -> int:
    """Make, list or revoke the tokens of further people."""
    from abhinaya.stream.serve.tokens import ROLES, Tokens
    from abhinaya.stream.sinks.events import wall_time

    parser = Parser("abhinaya serve token", _token.__doc__)
    parser.add_argument("name", nargs="?", help="whose token; without a name, list all")
    parser.add_argument(
        "--role", choices=ROLES, help="each may also do what the ones before it may"
    )
    parser.add_argument("--days", type=float, default=90.0, help="days that it holds (default: 90)")
    parser.add_argument(
        "--revoke", action="store_true", help="revoke the token; takes effect within a second"
    )
    _add_data(parser)
    args = parser.parse_args(argv)
    tokens = Tokens(args.data.expanduser())
    if not args.name:
        for one in tokens.all():
            end = wall_time(one.until) if one.until != float("inf") else "never"
            say(f"{one.name}: {one.role}, ends {end}")
    elif args.revoke:
        tokens.revoke(args.name)
        say(f"{args.name}: revoked")
    elif not args.role:
        raise ConfigError(
            "abhinaya serve token", "a token needs a role", f"--role {'|'.join(ROLES)}"
        )
    elif not 0 < args.days <= 3650:
        raise ConfigError(f"--days {args.days:g}", "is not a time", "give 1 to 3650")
    else:
        say(tokens.add(args.name, args.role, args.days))
    return 0


def _verify(folder: Path) -> int:
    """Check the audit log; print what it has."""
    from abhinaya.stream.serve.audit import verify

    chain = verify(folder)
    if chain.first is None or chain.last is None:
        say("the audit log is empty")
        return 0
    first, last = chain.first, chain.last
    say(f"entries {first.number} to {last.number}, {first.time} to {last.time}: unchanged")
    if chain.torn or chain.tail:
        at_end = ", the last line too" if chain.tail else ""
        say(f"cut-off lines: {chain.torn + bool(chain.tail)}{at_end}")
    say(
        f"note this elsewhere, since a cut at the end leaves no trace: {last.number} {chain.digest}"
    )
    return 0


def _add_data(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        default=DATA,
        metavar="FOLDER",
        help=f"folder for tokens and history (default: {DATA})",
    )


def _parser() -> Parser:
    parser = Parser("abhinaya serve", __doc__, epilog=EPILOG)
    web = parser.add_argument_group("web")
    web.add_argument("--host", default=HOST, help=f"address to serve (default: {HOST})")
    web.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}; 0: any free one")
    _add_data(web)
    web.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate, PEM")
    web.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key, PEM")
    web.add_argument(
        "--trusted-proxy",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="address of a proxy that has TLS; nobody else may connect then; repeatable",
    )
    web.add_argument("--verify-audit", action="store_true", help="check the audit log, and exit")
    web.add_argument("--demo", action="store_true", help="play the demo call at once")
    web.add_argument(
        "--traces",
        metavar="ADDRESS",
        help="collector of OpenTelemetry (OTLP over HTTP) that gets a span for each segment, such "
        "as http://127.0.0.1:4318/v1/traces",
    )
    add_log_flags(parser.add_argument_group("log"))
    run = parser.add_argument_group("line-up")
    add_line_up(run)
    run.add_argument(
        "--rules", type=Path, metavar="FILE", help="raise alerts by these rules (docs/rules.md)"
    )
    run.add_argument(
        "--accept-noncommercial", action="store_true", help="your use is not commercial"
    )
    hubs = run.add_mutually_exclusive_group()
    hubs.add_argument("--join", metavar="ENDPOINT", help="use a running hub, and read its events")
    add_cells(hubs)
    add_keys(run)
    run.add_argument(
        "--reader-key",
        metavar="NAME",
        help="key with which the runs of others are read, if that of --key-name has the role input",
    )
    return parser
