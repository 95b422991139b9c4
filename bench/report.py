"""Options, tables and JSON report of every benchmark."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from abhinaya.models.command_line import Parser
from abhinaya.stream.errors import SinkError

PAGE_CELLS: Final = 110
"""Width of tables that are not printed on a terminal, in characters."""


Column = str | Callable[[Any], str]
"""Cell of a column for an object: a format string with the object as `0`, or a function."""


@dataclass(frozen=True, slots=True)
class Report:
    """Result of a benchmark."""

    command: str
    settings: dict[str, Any]
    """Options of the command."""
    figures: dict[str, Any]
    """Measured figures; dataclasses are written field by field."""


def parser(command: str, description: str | None) -> Parser:
    """Return the parser of `abhinaya bench COMMAND`, with the common options."""
    made = Parser(f"abhinaya bench {command}", description)
    about = "write figures and machine facts here, as JSON"
    made.add_argument("--json", type=Path, metavar="FILE", help=about)
    return made


def settings_of(options: argparse.Namespace) -> dict[str, str]:
    """Return the options of a command for its report."""
    return {key: str(value) for key, value in vars(options).items() if key != "json"}


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table; the first column contains words, the others figures."""
    made = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number else "left")
    for row in rows:
        made.add_row(*row)
    return made


def table_of(title: str, columns: Mapping[str, Column], rows: Iterable[Any]) -> Table:
    """Return a table with a line for each object."""
    return table(title, list(columns), [[_cell(c, row) for c in columns.values()] for row in rows])


def _cell(column: Column, row: Any) -> str:
    return column.format(row) if isinstance(column, str) else column(row)


def publish(report: Report, tables: Iterable[Table], path: Path | None) -> None:
    """Print the tables and the machine; write the JSON report to `path`.

    Raises SinkError: the file cannot be written.
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
    """Return p50, p95 and p99 of `values`; NaN without values."""
    if not values:
        return dict.fromkeys(("p50", "p95", "p99"), float("nan"))
    p50, p95, p99 = np.percentile(np.asarray(values), [50, 95, 99])
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99)}


def ms(value: float) -> str:
    """Return milliseconds as text, with two decimals below 10."""
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def facts() -> dict[str, Any]:
    """Return processor, cores, memory and versions, which a reader needs to compare figures."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {
        "processor": next(names, platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def line(machine: dict[str, Any]) -> str:
    """Return the facts as one line under a table."""
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"Python {machine['python']}"
    )
