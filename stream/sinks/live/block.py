"""One stream in the view: a headline, its latest minutes, what was said, and the votes.

Each form has a height of its own, which does not depend on what happens in the stream: nothing
moves because somebody begins to speak.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from rich.cells import cell_len

from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.sinks.live.row import PLAIN, Row, style
from abhinaya.stream.sinks.live.stream import StreamState
from abhinaya.stream.sinks.live.timeline import mood_strip, name_in, strip, window
from abhinaya.stream.sinks.live.words import words_of, wrapped
from abhinaya.stream.sinks.palette import COLOURS
from abhinaya.stream.sinks.render import ALERT, LABEL_CELLS, QUIET, clock, percent
from abhinaya.stream.wire.messages import Verdict, Vote

MARGIN: Final = 3
"""Cells to the left: whether there is an alert, and who speaks."""
ALERT_S: Final = 60.0
"""How long an alert stays in the view."""
REST: Final = f"{QUIET} dim"
"""Of a bar: what is not full."""

ACTIVITY_CELLS: Final = 13
BAR_CELLS: Final = 10
VERDICT_CELLS: Final = LABEL_CELLS + 1 + BAR_CELLS + 1 + 4 + 2 + 6 + 1 + 6
WIDE: Final = 68
"""From this width on the headline has a bar, agreement and latency."""
NARROW: Final = 36
"""Below it a label is one letter."""
VOTE_CELLS: Final = 24
"""Of a vote that has others beside it, at least."""
VOTER_CELLS: Final = 8
NAME_CELLS: Final = 16
"""Of a stream in one line, at most."""
LEAST_STRIP: Final = 8
"""Narrower timelines say nothing."""
MOST_STRIP: Final = 60
"""Cells of a timeline that has words before it in the same line."""
LEAST_WORDS: Final = 16
"""Cells for words in a line with other things."""


class Form(NamedTuple):
    """How much of a stream is shown."""

    mood: bool
    text_rows: int
    votes: str
    """`rows`: one below the other; `grid`: beside each other; empty: none."""
    space: bool
    """Whether an empty row follows."""
    one_line: bool = False


FORMS: Final = (
    Form(mood=True, text_rows=2, votes="rows", space=True),
    Form(mood=True, text_rows=2, votes="grid", space=True),
    Form(mood=False, text_rows=2, votes="grid", space=True),
    Form(mood=False, text_rows=1, votes="grid", space=False),
    Form(mood=False, text_rows=0, votes="", space=False),
    Form(mood=False, text_rows=0, votes="", space=False, one_line=True),
)
"""From the largest to the smallest."""


class Sheet(NamedTuple):
    """What all blocks of one picture have in common."""

    width: int
    step: int
    """Samples in a cell of a timeline."""
    now_unix_s: float
    name_cells: int
    """Of the longest name of a stream."""
    voters: tuple[str, ...]
    silent: frozenset[str]
    """Fronts from which nothing comes."""


def height(form: Form, voters: int, width: int) -> int:
    """Give how many rows a stream takes."""
    if form.one_line:
        return 1
    votes = {"rows": voters, "grid": -(-voters // _columns(voters, width))}.get(form.votes, 0)
    return 2 + form.mood + form.text_rows + votes + form.space


def block(stream: StreamState, form: Form, sheet: Sheet) -> list[Row]:
    """Draw a stream in as many rows as `height` says."""
    if form.one_line:
        return [_line(stream, sheet)]
    cells = max(0, sheet.width - MARGIN)
    view = window(stream.position(sheet.now_unix_s), cells, sheet.step)
    rows = [
        _headline(stream, sheet, with_words=not form.text_rows),
        strip(stream, view, sheet.now_unix_s),
    ]
    if form.mood:
        rows.append(mood_strip(stream, view, sheet.now_unix_s))
    rows += wrapped(words_of(stream), cells, form.text_rows)
    if form.votes == "rows":
        rows += [_vote(stream.latest, voter, sheet, cells) for voter in sheet.voters]
    elif form.votes == "grid":
        rows += _grid(stream.latest, sheet, cells)
    indented = [rows[0], *(Row(sheet.width).until(MARGIN).extend(row) for row in rows[1:])]
    return [*indented, Row(sheet.width)] if form.space else indented


# --- the headline ---------------------------------------------------------------------------------


def _headline(stream: StreamState, sheet: Sheet, with_words: bool) -> Row:
    row = _marked(stream, sheet)
    latest = stream.latest
    if sheet.width >= WIDE:
        left = sheet.width - VERDICT_CELLS - 2
        name = min(sheet.name_cells, left - row.cells - ACTIVITY_CELLS - 2)
        row.column(stream.name, name, style("bold")).add("  ")
        row.column(_activity(stream, sheet), ACTIVITY_CELLS, style(QUIET))
        room = left - row.cells
        if with_words and room >= LEAST_WORDS:
            row.extend(wrapped(words_of(stream), room, 1)[0])
        row.until(left + 2)
        return _verdict(row, stream, latest)
    label = LABEL_CELLS if sheet.width >= NARROW else 1
    row.column(stream.name, max(1, sheet.width - row.cells - label - 6), style("bold"))
    return _short_verdict(row.add(" "), latest, label)


def _marked(stream: StreamState, sheet: Sheet) -> Row:
    row = Row(sheet.width)
    alerted = stream.alert_unix_s is not None and sheet.now_unix_s - stream.alert_unix_s < ALERT_S
    row.add("!" if alerted else " ", style(f"bold {ALERT}"))
    if stream.ended is not None:
        broken = bool(stream.ended.reason)
        return row.add("✗ " if broken else "✓ ", style(ALERT if broken else QUIET))
    if _is_silent(stream, sheet):
        return row.add("✗ ", style(ALERT))
    if stream.speaking:
        return row.add("● ", style("bold"))
    return row.add("○ " if stream.live else "▸ ", style(QUIET))


def _activity(stream: StreamState, sheet: Sheet) -> str:
    position = stream.position(sheet.now_unix_s)
    if stream.ended is not None:
        verb = "broke" if stream.ended.reason else "ended"
        return f"{verb} {clock(position)[:-2]}"
    if _is_silent(stream, sheet):
        return "input is down"
    if not stream.live:
        return f"at {clock(position)[:-2]}"
    verb = "speaking" if stream.speaking else "quiet"
    start = stream.turned
    if start is None and stream.so_far is not None:
        start = stream.so_far.start
    if start is None:
        return "listening"
    elapsed = max(0, position - start) // SAMPLE_RATE
    ago = f"{elapsed}s" if elapsed < 60 else f"{elapsed // 60}m"
    return f"{verb} {ago}"


def _is_silent(stream: StreamState, sheet: Sheet) -> bool:
    return stream.info is not None and stream.info.front in sheet.silent


def _verdict(row: Row, stream: StreamState, verdict: Verdict | None) -> Row:
    if verdict is None:
        return row
    colour = COLOURS.get(verdict.label, QUIET)
    how = style(f"bold {colour}" if verdict.final else f"italic {colour}")
    row.column(verdict.label, LABEL_CELLS, how).add(" ")
    _bar(row, verdict.confidence, BAR_CELLS, colour)
    row.add(f" {percent(verdict.confidence)}  ")
    present = len(verdict.votes)
    agreed = f"{round(verdict.agreement * present)} of {present}" if present else "-"
    row.column(agreed, 6, style(QUIET)).add(" ")
    seconds = f"{stream.latency_ms / 1000:.1f} s" if stream.latency_ms is not None else ""
    return row.column(seconds if verdict.final else "so far", 6, style(QUIET), right=True)


def _short_verdict(row: Row, verdict: Verdict | None, label_cells: int) -> Row:
    if verdict is None:
        return row
    colour = COLOURS.get(verdict.label, QUIET)
    how = style(f"bold {colour}" if verdict.final else f"italic {colour}")
    label = name_in(verdict.label, 1) if label_cells == 1 else verdict.label
    return row.column(label, label_cells, how).add(f" {percent(verdict.confidence)}")


def _bar(row: Row, share: float | None, cells: int, colour: str) -> None:
    """Draw a share as a bar, exact to half a cell."""
    halves = round(2 * cells * min(1.0, max(0.0, share or 0.0)))
    row.add("━" * (halves // 2) + "╸" * (halves % 2), style(colour))
    row.add("─" * (cells - halves // 2 - halves % 2), style(REST))


class _Columns(NamedTuple):
    """Where what stands in a stream that is one line."""

    name: int
    label: int
    words: int
    strip: int


def _line_columns(width: int) -> _Columns:
    label = LABEL_CELLS if width >= NARROW else 1
    rest = width - MARGIN - 1 - label - 5
    name = max(1, min(NAME_CELLS, rest if rest < 2 * LEAST_STRIP else rest // 2))
    cells = rest - name - 2
    words = cells - MOST_STRIP - 2
    if words >= LEAST_WORDS:
        return _Columns(name, label, words, MOST_STRIP)
    return _Columns(name, label, 0, cells if cells >= LEAST_STRIP else 0)


def _line(stream: StreamState, sheet: Sheet) -> Row:
    """Draw a stream as one line: name, label, confidence, and a timeline in the rest."""
    columns = _line_columns(sheet.width)
    row = _marked(stream, sheet)
    row.column(stream.name, columns.name).add(" ")
    _short_verdict(row, stream.latest, columns.label)
    if not columns.strip:
        return row
    start = sheet.width - columns.strip
    if columns.words:
        row.until(start - columns.words - 2)
        row.extend(wrapped(words_of(stream), columns.words, 1)[0])
    view = window(stream.position(sheet.now_unix_s), columns.strip, sheet.step)
    return row.until(start).extend(strip(stream, view, sheet.now_unix_s))


def strip_cells(form: Form, width: int) -> int:
    """Give how many cells a timeline has; 0 where there is no room for one."""
    return _line_columns(width).strip if form.one_line else max(0, width - MARGIN)


# --- the votes ------------------------------------------------------------------------------------


def _columns(voters: int, width: int) -> int:
    return max(1, min(voters, (width - MARGIN + 2) // (VOTE_CELLS + 2)))


def _grid(verdict: Verdict | None, sheet: Sheet, cells: int) -> list[Row]:
    columns = _columns(len(sheet.voters), sheet.width)
    each = (cells + 2) // columns - 2
    rows = []
    for first in range(0, len(sheet.voters), columns):
        row = Row(cells)
        for i, voter in enumerate(sheet.voters[first : first + columns]):
            row.until(i * (each + 2)).extend(_vote(verdict, voter, sheet, each))
        rows.append(row)
    return rows


def _vote(verdict: Verdict | None, voter: str, sheet: Sheet, cells: int) -> Row:
    """Draw a voter: label and share, why there is none, or nothing while it is awaited."""
    row = Row(cells)
    width = min(VOTER_CELLS, max(map(cell_len, sheet.voters)))
    row.column(voter, width, style(QUIET)).add(" ")
    vote = next((v for v in verdict.votes if v.voter == voter), None) if verdict else None
    if vote is None:
        reasons = [m.reason for m in verdict.missing if m.voter == voter] if verdict else []
        if verdict is None:
            return row
        if reasons and verdict.final:
            row.add("✗ ", style(f"bold {ALERT}"))
        else:  # it may still come
            row.add("… ", style(QUIET))
        return row.column(reasons[0] if reasons else "", row.room, style(QUIET))
    colour = COLOURS.get(vote.label, QUIET)
    row.column(vote.label, LABEL_CELLS, style(colour)).add(" ")
    shares = _shares(vote)
    if not shares:
        return row
    bar = min(2 * BAR_CELLS, row.room - 5)
    claim = dict(shares).get(vote.label)
    if bar >= 4:
        _bar(row, claim, bar, colour)
        row.add(" ")
    row.add(percent(claim))
    for label, share in [entry for entry in shares if entry[0] != vote.label][:3]:
        text = f"{label} {share:.0%}"
        if share < 0.01 or row.room < 3 + len(text):
            break
        row.add("   ").add(label, style(COLOURS.get(label, QUIET))).add(f" {share:.0%}", PLAIN)
    return row


def _shares(vote: Vote) -> list[tuple[str, float]]:
    """Give labels and their probabilities, the most probable first."""
    if vote.probabilities is None or vote.label == UNKNOWN:
        return []
    return sorted(zip(LABELS, vote.probabilities, strict=False), key=lambda entry: -entry[1])
