"""`abhinaya plan`: machines, GPUs, cells and bandwidth for a number of streams; what breaks first.

    abhinaya plan --streams 100000 --profile paper
    abhinaya plan --streams 1000 --gpu L40S --json plan.json
    abhinaya plan --measure mine.toml; abhinaya plan --streams 500 --figures mine.toml

A stream is one channel of a call. Every figure has its source, printed below the plan: measured, or
published, or an assumption. A file with other figures replaces them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import msgspec
from rich.console import Console

from abhinaya.bench.capacity import figures as reading
from abhinaya.bench.capacity.figures import Figures
from abhinaya.bench.capacity.plan import Ask, Ingest, make
from abhinaya.bench.capacity.simulation.scenario import check, scenarios, simulate
from abhinaya.bench.capacity.tables import simulated, tables
from abhinaya.models.command_line import Parser
from abhinaya.models.errors import naming_the_extra
from abhinaya.models.text import say
from abhinaya.models.toml import as_toml
from abhinaya.stream.commands.stream import guarded
from abhinaya.stream.errors import ConfigError, SinkError
from abhinaya.stream.settings.config import Config
from abhinaya.stream.settings.environment import add_line_up, load_line_up

WIDTH = 110
"""Of what is not printed on a terminal."""


def main(argv: Sequence[str] | None = None) -> int:
    """Plan, print and write. Return the exit code, see `guarded`."""
    options = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    return guarded("abhinaya plan", lambda: _plan(options))


def _parser() -> Parser:
    parser = Parser("abhinaya plan", __doc__)
    add = parser.add_argument
    add("--streams", type=int, metavar="N", help="channels at the same time, in the busiest hour")
    add_line_up(parser)
    about = "share of the streams that are live, the others are recordings (%(default)g)"
    add("--live-share", type=float, default=1.0, metavar="SHARE", help=about)
    about = "how live speech comes: pushed over websocket or siprec, or inputs that are read"
    add("--ingest", choices=get_args(Ingest), default="websocket", help=f"{about} (%(default)s)")
    add("--gpu", default="H100", metavar="NAME", help="kind of GPU, of the figures (%(default)s)")
    add("--cells", type=int, default=0, metavar="N", help="(default: as many as the hubs need)")
    add("--figures", type=Path, metavar="FILE", help="figures in place of the package's own")
    about = "simulate the plan, twice its load, and the loss of a cell; with so many cells, 0: all"
    add("--simulate", type=int, nargs="?", const=4, metavar="CELLS", help=f"{about} (4)")
    add("--seed", type=int, default=1, help="of the simulated speech (%(default)s)")
    about = "measure this machine for one or two minutes, and write its figures here"
    add("--measure", type=Path, metavar="FILE", help=about)
    about = "with --measure: calls whose speech it measures too, a channel for each party"
    add("--speech", type=Path, nargs="+", default=(), metavar="FILE", help=about)
    add("--json", type=Path, metavar="FILE", help="write the plan and its figures here")
    return parser


def _plan(options: argparse.Namespace) -> int:
    if options.streams is None and options.measure is None:
        raise ConfigError("number of streams", "is missing", "--streams 1000")
    figures = reading.load(options.figures)
    config = load_line_up(options)
    if options.measure:
        figures = _measure(options.measure, figures, config, options.speech)
    if options.streams is None:
        return 0
    ask = Ask(options.streams, options.live_share, options.ingest, options.gpu, options.cells)
    plan = make(ask, config, figures)
    if options.simulate is not None:
        check(plan, options.simulate)
    console = Console()
    console = console if console.is_terminal else Console(width=WIDTH)
    for part in tables(plan, config, figures):
        console.print(part, highlight=False)
    outcomes = []
    if options.simulate is not None:
        for scenario in scenarios(plan, options.simulate, options.seed):
            say(f"simulating {scenario.name}", file=sys.stderr)
            outcomes.append(simulate(plan, config, figures, scenario))
        for part in simulated(outcomes, plan):
            console.print(part, highlight=False)
    if options.json:
        written = {"plan": plan, "figures": figures, "simulated": [o.summary() for o in outcomes]}
        _write(options.json, msgspec.json.format(msgspec.json.encode(written)) + b"\n")
    return 0


def _measure(path: Path, figures: Figures, config: Config, recordings: Sequence[Path]) -> Figures:
    with naming_the_extra("abhinaya plan --measure"):
        from abhinaya.bench.capacity.measure import measured
    _write(path, b"")  # rather now than after two minutes
    found = measured(
        figures, config, recordings, lambda text: say(f"measuring {text}", file=sys.stderr)
    )
    title = "Figures of `abhinaya plan --figures`: what this machine measured, and the others"
    _write(path, as_toml(title, found, {}).encode())
    say(f"wrote {path}")
    return found


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise SinkError(str(path), f"cannot be written: {error.strerror}") from error
