"""A board as a picture that fits a terminal of any size: how much of which streams is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len

from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.stream.sinks.live.block import (
    ALERT_S,
    FORMS,
    MARGIN,
    Form,
    Sheet,
    block,
    height,
    strip_cells,
)
from abhinaya.stream.sinks.live.board import Board
from abhinaya.stream.sinks.live.row import Picture, Row, style
from abhinaya.stream.sinks.live.stream import StreamState
from abhinaya.stream.sinks.live.timeline import ruler, step_for
from abhinaya.stream.sinks.palette import COLOURS, LETTERS
from abhinaya.stream.sinks.render import ALERT, QUIET, count, told
from abhinaya.stream.sinks.rows import clean

ROOMY: Final = 8
"""Rows from which on there is a ruler and a second line below."""

LEGEND: Final = sum(len(label) + 4 for label in LABELS) - 1
"""Cells that the names of all labels take."""


def picture(board: Board, width: int, rows: int, now_unix_s: float) -> Picture:
    """Draw everything in at most `rows` rows of at most `width` cells."""
    width, rows = max(1, width), max(1, rows)
    streams = list(board.streams.values())
    below = _below(board, width, now_unix_s)[: 2 if rows >= ROOMY else 1]
    room = rows - len(below) - (rows >= ROOMY)
    form = _form(streams, len(board.voters), width, room)
    each = height(form, len(board.voters), width)
    shown, hidden = _chosen(streams, max(0, room // each), now_unix_s)
    cells = strip_cells(form, width)
    longest = max((stream.position(now_unix_s) for stream in streams), default=0)
    sheet = Sheet(
        width=width,
        step=step_for(longest, max(1, cells)),
        now_unix_s=now_unix_s,
        name_cells=max((cell_len(stream.name) for stream in streams), default=0),
        voters=tuple(sorted(board.voters)),
        silent=frozenset(board.down),
    )
    drawn: list[Row] = []
    if rows >= ROOMY and cells:
        above = Row(width).until(width - cells)
        drawn.append(above.extend(ruler(cells, sheet.step)))
    for stream in shown:
        drawn += block(stream, form, sheet)
    if hidden:
        drawn.append(_more(hidden, width))
    return Picture([*drawn[: rows - len(below)], *below])


def _form(streams: Sequence[StreamState], voters: int, width: int, room: int) -> Form:
    """Give the largest form in which all streams fit, else the smallest."""
    for form in FORMS:
        if len(streams) * height(form, voters, width) <= room:
            return form
    return FORMS[-1]


def _chosen(
    streams: Sequence[StreamState], places: int, now_unix_s: float
) -> tuple[list[StreamState], list[StreamState]]:
    """Divide streams into those that are shown and those that are not, for lack of places.

    All keep the order of their start. If there is not room for all, those with an alert come
    first, then those in a mood that is not neutral, those that go on, and those that have ended.
    A mood changes seldom, so that streams do not jump about.
    """
    if len(streams) <= places:
        return list(streams), []
    order = sorted(streams, key=lambda stream: _rank(stream, now_unix_s))
    # one line says how many are not shown
    places = max(0, places - 1)
    return order[:places], order[places:]


def _rank(stream: StreamState, now_unix_s: float) -> int:
    def lately(then_unix_s: float | None) -> bool:
        return then_unix_s is not None and now_unix_s - then_unix_s < ALERT_S

    if lately(stream.alert_unix_s):
        return 0
    if stream.ended is not None:
        return 3
    moved = stream.mood not in ("neutral", UNKNOWN)
    return 1 if moved or lately(stream.gap_unix_s) else 2


def _more(hidden: Sequence[StreamState], width: int) -> Row:
    speaking = sum(stream.speaking for stream in hidden)
    ended = sum(stream.ended is not None for stream in hidden)
    parts = [f"+ {len(hidden)} more"]
    if speaking:
        parts.append(f"{speaking} speaking")
    if ended:
        parts.append(f"{ended} ended")
    return Row(width).until(min(MARGIN, width // 8)).add(" · ".join(parts), style(QUIET))


# --- below the streams ----------------------------------------------------------------------------


def _below(board: Board, width: int, now_unix_s: float) -> list[Row]:
    return [_counts(board, width), _alert_or_legend(board, width, now_unix_s)]


def _counts(board: Board, width: int) -> Row:
    """Draw what the hub counts: as much as there is room for, what is wrong first and in red."""
    bad = f"bold {ALERT}"
    parts = [(f"{name} down: {reason}", bad) for name, reason in board.down.items()]
    parts.append((f"{count(len(board.up), 'node')} up", QUIET))
    if board.gaps:
        parts.append((f"{count(board.gaps, 'gap')}: {board.gap_reason}", bad))
    refused = sum(board.status.refused.values()) if board.status else 0
    if refused:
        parts.append((f"{count(refused, 'message')} refused", bad))
    if board.status is not None:
        parts.append((f"{board.status.waiting} waiting", QUIET))
        parts.append((f"{board.status.open_segments} open", QUIET))
    if not board.gaps:
        parts.append(("0 gaps", QUIET))
    if board.restarts:
        parts.append((count(board.restarts, "restart"), QUIET))
    if board.alerts:
        parts.append((count(board.alerts, "alert"), QUIET))
    if board.latency_ms is not None:
        parts.append((f"latency {board.latency_ms / 1000:.1f} s", QUIET))
    return _joined(parts, width)


def _joined(parts: Sequence[tuple[str, str]], width: int) -> Row:
    """Put parts in a line; those for which there is no room are left out."""
    row = Row(width).until(min(MARGIN, width // 8))
    begin = row.cells
    for text, how in parts:
        text = clean(text)
        mark = " · " if row.cells > begin else ""
        if mark and cell_len(text) + len(mark) > row.room:
            continue
        row.add(mark, style(QUIET)).column(text, min(cell_len(text), row.room), style(how))
    return row


def _alert_or_legend(board: Board, width: int, now_unix_s: float) -> Row:
    row = Row(width)
    alert = board.alert
    if alert is not None and now_unix_s - board.alert_unix_s < ALERT_S:
        return row.add(" ! ").column(told(alert), row.room, style(f"bold {ALERT}"))
    entries = [f" {label}" if width >= LEGEND else "" for label in LABELS]
    row.until(1 if width < LEGEND + MARGIN else MARGIN)
    for i, (label, name) in enumerate(zip(LABELS, entries, strict=True)):
        row.add("  " if i else "").add(LETTERS[label], style(f"{COLOURS[label]} reverse"))
        row.add(name, style(COLOURS[label]))
    return row
