"""Draws the latest minutes of a stream as a strip of cells of equal duration.

Cells lie on a fixed grid of samples, so that the strip moves left without changing its shape. A
segment is a block in the colour of its label, with as much of the label's name as fits. A gap is a
row of crosses.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Final, NamedTuple

from rich.text import Text

from abhinaya.models.labels import UNKNOWN
from abhinaya.stream.clock import SAMPLE_RATE, to_samples
from abhinaya.stream.sinks.live.board import GAP, StreamState
from abhinaya.stream.sinks.palette import ALERT, COLOURS, LETTERS, QUIET

TICKS_S: Final = {1: 30, 2: 60, 4: 120}
"""Possible seconds per cell, each with the seconds between two ticks of the ruler. The smallest
that shows the whole stream is used, else the largest."""
LEAST_SHARE: Final = 4
"""A cell is drawn as silence if less than 1 / LEAST_SHARE of it is speech or a gap."""
AWAITED: Final = 10 * SAMPLE_RATE
"""Samples after its end for which speech without a label is still drawn."""

SILENCE: Final = "·"
PENDING: Final = "░"
"""Speech without a final label."""
LOST: Final = "\N{MULTIPLICATION SIGN}"
MOOD: Final = "━"


class Mark(NamedTuple):
    """Content of a cell."""

    kind: str
    """`label`, `so far`, `speech`, `gap`, `silence`, or `none` before the stream began."""
    label: str = ""


class Window(NamedTuple):
    """The part of a stream that a strip shows."""

    first: int
    """Number of the first cell; below 0 before the stream began."""
    cells: int
    step: int
    """Samples in a cell."""


def step_for(position: int, cells: int) -> int:
    """Return the samples per cell, if the longest stream is at `position`."""
    fitting = (step_s for step_s in TICKS_S if position <= cells * step_s * SAMPLE_RATE)
    return next(fitting, max(TICKS_S)) * SAMPLE_RATE


def window(position: int, cells: int, step: int) -> Window:
    """Return the window whose last cell contains `position`."""
    return Window(-(-position // step) - cells, cells, step)


def marks(stream: StreamState, view: Window, position: int) -> list[Mark]:
    """Return the content of each cell of the window: the mark that covers most of it."""
    shares: dict[int, dict[Mark, int]] = {}
    for start, end, mark in _stretches(stream, view.first * view.step, position):
        first = max(0, start // view.step - view.first)
        last = min(view.cells, -(-end // view.step) - view.first)
        for i in range(first, last):
            at = (view.first + i) * view.step
            share = shares.setdefault(i, {})
            share[mark] = share.get(mark, 0) + min(end, at + view.step) - max(start, at)
    silence, nothing = Mark("silence"), Mark("none")
    result = [silence if view.first + i >= 0 else nothing for i in range(view.cells)]
    for i, share in shares.items():
        at = (view.first + i) * view.step
        if sum(share.values()) * LEAST_SHARE >= min(view.step, max(1, position - at)):
            result[i] = max(share, key=lambda mark: share[mark])
    return result


def _stretches(stream: StreamState, since: int, position: int) -> Iterator[tuple[int, int, Mark]]:
    for span in reversed(stream.spans):
        if span.end <= since:
            break
        yield span.start, span.end, Mark("gap") if span.label == GAP else Mark("label", span.label)
    start = max(stream.begun, stream.spans[-1].end if stream.spans else 0)
    if stream.so_far is not None:
        yield stream.so_far.start, stream.so_far.end, Mark("so far", stream.so_far.label)
        start = max(start, stream.so_far.end)
    # ended speech waits for its label, but a sound too short for a segment never gets one
    end = position if stream.speaking else stream.activity.position if stream.activity else 0
    if start < end and position - end < AWAITED:
        yield start, end, Mark("speech")


def strip(stream: StreamState, view: Window, now_unix_s: float) -> Text:
    """Draw the segments of a stream."""
    row = Text()
    for mark, run in groupby(marks(stream, view, stream.position(now_unix_s))):
        row.append(*_drawn(mark, len(list(run))))
    return row


def _drawn(mark: Mark, cells: int) -> tuple[str, str]:
    match mark.kind:
        case "label":
            # reverse video: the name gets the colour of the background
            text = f" {mark.label}" if cells > len(mark.label) + 1 else name_in(mark.label, cells)
            return text.ljust(cells), f"{_colour(mark.label)} reverse"
        case "so far":
            return name_in(mark.label, cells).ljust(cells, PENDING), _colour(mark.label)
        case "speech":
            return PENDING * cells, QUIET
        case "gap":
            return LOST * cells, f"bold {ALERT}"
        case "silence":
            return SILENCE * cells, f"{QUIET} dim"
        case _:
            return " " * cells, ""


def name_in(label: str, cells: int) -> str:
    """Return as much of a label as fits; in one cell, its unique letter."""
    return LETTERS.get(label, label[:1].upper()) if cells == 1 else label[:cells]


def mood_strip(stream: StreamState, view: Window, now_unix_s: float) -> Text:
    """Draw the smoothed label of a stream as a thin line below its segments."""
    row = Text()
    end = -(-stream.position(now_unix_s) // view.step) - view.first
    starts = [to_samples(change.at_s) // view.step - view.first for change in stream.moods]
    for change, start, until in zip(stream.moods, starts, [*starts[1:], end], strict=False):
        cells = min(until, view.cells) - max(start, 0)
        if cells <= 0:
            continue
        row.pad_right(max(0, start - len(row)))
        text = f"{change.after} " if cells > len(change.after) + 2 else ""
        text += MOOD * (cells - len(text))
        # a space separates it from the next
        row.append(text if until == end else text[:-1] + " ", _colour(change.after))
    return row


def ruler(cells: int, step: int) -> Text:
    """Draw the time scale above the strips; its right end is now. `step`: samples per cell."""
    every = TICKS_S[step // SAMPLE_RATE]
    line = ["─"] * cells
    for back_s in range(0, cells * step // SAMPLE_RATE + 1, every):
        text = f" -{back_s // 60}:{back_s % 60:02} " if back_s else " now"
        at = cells - back_s * SAMPLE_RATE // step - (len(text) // 2 if back_s else len(text))
        if at >= 0:
            line[at : at + len(text)] = text
    return Text("".join(line), f"{QUIET} dim")


def _colour(label: str) -> str:
    return COLOURS.get(label, COLOURS[UNKNOWN])
