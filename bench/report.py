"""What every bench command does alike: its options, its table, and its JSON with the machine."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from abhinaya.bench.machine import facts, line
from abhinaya.models.command_line import Parser
from abhinaya.stream.errors import SinkError

PAGE_CELLS: Final = 110
"""Width of what is not printed on a terminal."""


Column = str | Callable[[Any], str]
"""What a column shows of an object: a format string for it as `0`, or a function."""


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one bench command."""

    command: str
    settings: dict[str, Any]
    """What was asked for."""
    figures: dict[str, Any]
    """What was measured; dataclasses in it are written field by field."""


def parser(command: str, description: str | None) -> Parser:
    """Make the parser of `abhinaya bench COMMAND`, with what all of them take."""
    made = Parser(f"abhinaya bench {command}", description)
    made.add_argument(
        "--json", type=Path, metavar="FILE", help="write figures and machine facts here, as JSON"
    )
    return made


def settings_of(options: argparse.Namespace) -> dict[str, str]:
    """Return what was asked for, as a report says it."""
    return {key: str(value) for key, value in vars(options).items() if key != "json"}


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Make a table whose first column is words and whose others are figures."""
    made = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number else "left")
    for row in rows:
        made.add_row(*row)
    return made


def table_of(title: str, columns: Mapping[str, Column], rows: Iterable[Any]) -> Table:
    """Make a table with a line for each object."""
    return table(title, list(columns), [[_cell(c, row) for c in columns.values()] for row in rows])


def _cell(column: Column, row: Any) -> str:
    return column.format(row) if isinstance(column, str) else column(row)


def publish(report: Report, tables: Iterable[Table], path: Path | None) -> None:
    """Print the tables and the machine; write the JSON if a path is given.

    Raises:
        SinkError: the file cannot be written.

    """
    machine = facts()
    console = Console()
    if not console.is_terminal:
        console = Console(width=PAGE_CELLS)
    for made in tables:
        console.print(made)
    console.print(line(machine), style="dim", highlight=False)
    if path is None:
        return
    whole = msgspec.to_builtins(report) | {"unix_s": round(time.time()), "machine": machine}
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n")
    except OSError as error:
        raise SinkError(str(path), f"cannot be written: {error.strerror}") from error


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 and p99 of `values`; NaN for none."""
    if not values:
        return dict.fromkeys(("p50", "p95", "p99"), float("nan"))
    p50, p95, p99 = np.percentile(np.asarray(values), [50, 95, 99])
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99)}


def ms(value: float) -> str:
    """Write milliseconds with as many digits as mean something."""
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"
