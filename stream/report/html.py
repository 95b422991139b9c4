"""Small pieces of HTML: everything that is said is escaped here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.stream.sinks.rows import one_line


def text(value: object) -> str:
    """Give a value as text that cannot be taken for HTML."""
    return html.escape(one_line(str(value)))


def clock(seconds: float) -> str:
    """Give a time as h:mm:ss, or m:ss within the first hour."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def length(seconds: float) -> str:
    """Give a length of time for people."""
    return f"{seconds:.1f} s" if seconds < 60 else clock(seconds)


def percent(share: float | None) -> str:
    """Give a share as a percentage; a dash where there is none."""
    return "-" if share is None else f"{share:.0%}"


def mark(label: str) -> str:
    """Give a label: its name, with its colour before it."""
    return f'<span class="mark {kind(label)}">{text(label)}</span>'


def kind(label: str) -> str:
    """Give the class that colours a label."""
    return f"e-{label}" if label in (*LABELS, UNKNOWN, "gap") else "e-unknown"


def count(number: int, one: str, many: str = "") -> str:
    """Give a number with its noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """Give a table of cells that are HTML already; the first of each row is its heading."""
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{c}</td>" for c in row[1:]) + "</tr>"
        for row in rows
    )
    heads = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    return (
        f'<div class="scroll"><table><caption>{text(caption)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )
