"""Draws the board as a picture that fits the terminal: chooses the streams and their details."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len
from rich.text import Text

from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.models.text import clean
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
from abhinaya.stream.sinks.live.board import Board, StreamState
from abhinaya.stream.sinks.live.timeline import ruler, step_for
from abhinaya.stream.sinks.palette import ALERT, COLOURS, LETTERS, QUIET
from abhinaya.stream.sinks.render import alert_sentence, count, fit

ROOMY: Final = 8
"""Number of rows from which a ruler and a second line at the bottom are drawn."""

LEGEND: Final = sum(len(label) + 4 for label in LABELS) - 1
"""Cells that the names of all labels take."""


def picture(board: Board, width: int, rows: int, now_unix_s: float) -> list[Text]:
    """Return the picture: at most `rows` rows of at most `width` cells."""
    width, rows = max(1, width), max(1, rows)
    streams = list(board.streams.values())
    below = [_counts(board, width), _alert_or_legend(board, width, now_unix_s)]
    below = below[: 2 if rows >= ROOMY else 1]
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
        name_cells=max((cell_len(clean(stream.name)) for stream in streams), default=0),
        voters=tuple(sorted(board.voters)),
        down=frozenset(board.down),
    )
    drawn: list[Text] = []
    if rows >= ROOMY and cells:
        drawn.append(Text(" " * (width - cells)).append_text(ruler(cells, sheet.step)))
    for stream in shown:
        drawn += block(stream, form, sheet)
    if hidden:
        drawn.append(_more(hidden, width))
    drawn = [*drawn[: rows - len(below)], *below]
    for row in drawn:
        row.truncate(width, overflow="crop")
        row.no_wrap, row.overflow = True, "crop"
    return drawn


def _form(streams: Sequence[StreamState], voters: int, width: int, room: int) -> Form:
    """Return the largest form in which all streams fit, else the smallest."""
    for form in FORMS:
        if len(streams) * height(form, voters, width) <= room:
            return form
    return FORMS[-1]


def _chosen(
    streams: Sequence[StreamState], places: int, now_unix_s: float
) -> tuple[list[StreamState], list[StreamState]]:
    """Return the streams that are shown, and those that are hidden for lack of room.

    If there is no room for all, streams with a recent alert come first, then those with a recent
    gap or a mood other than neutral, then the other running ones, then the ended ones. Within each
    group the order is that of their start. Moods change rarely, so streams seldom move.
    """
    if len(streams) <= places:
        return list(streams), []
    order = sorted(streams, key=lambda stream: _rank(stream, now_unix_s))
    places = max(0, places - 1)  # one line shows how many are hidden
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


def _more(hidden: Sequence[StreamState], width: int) -> Text:
    speaking = sum(stream.speaking for stream in hidden)
    ended = sum(stream.ended is not None for stream in hidden)
    parts = [f"+ {len(hidden)} more"]
    if speaking:
        parts.append(f"{speaking} speaking")
    if ended:
        parts.append(f"{ended} ended")
    return Text(" " * min(MARGIN, width // 8)).append(" · ".join(parts), QUIET)


def _counts(board: Board, width: int) -> Text:
    """Draw the status line, with errors in red; parts that do not fit are left out."""
    bad, status = f"bold {ALERT}", board.status
    parts = [(f"{name} down: {reason}", bad) for name, reason in board.down.items()]
    parts.append((f"{count(len(board.up), 'node')} up", QUIET))
    if board.gaps:
        parts.append((f"{count(board.gaps, 'gap')}: {board.gap_reason}", bad))
    if status is not None and status.left_out:
        parts.append((f"overloaded: {', '.join(status.left_out)} left out", bad))
    if status is not None and (refused := sum(status.refused.values())):
        parts.append((f"{count(refused, 'message')} refused", bad))
    if status is not None:
        parts.append((f"{status.waiting} waiting", QUIET))
        parts.append((f"{status.open_segments} open", QUIET))
    if not board.gaps:
        parts.append(("0 gaps", QUIET))
    if board.restarts:
        parts.append((count(board.restarts, "restart"), QUIET))
    if board.alerts:
        parts.append((count(board.alerts, "alert"), QUIET))
    if board.latency_ms is not None:
        parts.append((f"latency {board.latency_ms / 1000:.1f} s", QUIET))
    row = Text(" " * min(MARGIN, width // 8))
    mark = ""
    for text, style in parts:
        cells, room = cell_len(clean(text)), width - row.cell_len - len(mark)
        if mark and cells > room:
            continue
        row.append(mark, QUIET).append(fit(text, min(cells, room)), style)
        mark = " · "
    return row


def _alert_or_legend(board: Board, width: int, now_unix_s: float) -> Text:
    alert = board.alert
    if alert is not None and now_unix_s - board.alert_unix_s < ALERT_S:
        return Text(" ! ").append(fit(alert_sentence(alert), width - 3), f"bold {ALERT}")
    row = Text(" " * (1 if width < LEGEND + MARGIN else MARGIN))
    for i, label in enumerate(LABELS):
        row.append("  " if i else "").append(LETTERS[label], f"{COLOURS[label]} reverse")
        row.append(f" {label}" if width >= LEGEND else "", COLOURS[label])
    return row
