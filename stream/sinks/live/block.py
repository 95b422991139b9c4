"""One stream in the view: a headline, its latest minutes, what was said, and the votes.

Each form has a height of its own, which does not depend on what happens in the stream: nothing
moves because somebody begins to speak.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from rich.cells import cell_len
from rich.text import Text

from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.sinks.live.board import StreamState
from abhinaya.stream.sinks.live.timeline import mood_strip, name_in, strip, window
from abhinaya.stream.sinks.palette import ALERT, COLOURS, QUIET
from abhinaya.stream.sinks.render import LABEL_CELLS, bar, clock, fit, fold, percent
from abhinaya.stream.sinks.rows import clean
from abhinaya.stream.wire.messages import Verdict, Vote

MARGIN: Final = 3
"""Cells to the left: whether there is an alert, and who speaks."""
ALERT_S: Final = 60.0
"""How long an alert stays in the view."""
UNSTABLE: Final = "dim italic"
"""Words that may still change. Both, since not every terminal knows each."""
CUT: Final = "… "
"""Stands before the end of a text whose beginning is not shown."""

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
    """Return how many rows a stream takes."""
    if form.one_line:
        return 1
    votes = {"rows": voters, "grid": -(-voters // _columns(voters, width))}.get(form.votes, 0)
    return 2 + form.mood + form.text_rows + votes + form.space


def block(stream: StreamState, form: Form, sheet: Sheet) -> list[Text]:
    """Draw a stream in as many rows as `height` says."""
    if form.one_line:
        return [_line(stream, sheet)]
    cells = max(0, sheet.width - MARGIN)
    view = window(stream.position(sheet.now_unix_s), cells, sheet.step)
    rows = [strip(stream, view, sheet.now_unix_s)]
    if form.mood:
        rows.append(mood_strip(stream, view, sheet.now_unix_s))
    rows += folded(words_of(stream), cells, form.text_rows)
    columns = _columns(len(sheet.voters), sheet.width) if form.votes == "grid" else 1
    if form.votes:
        rows += _votes(stream.latest, sheet.voters, columns, cells)
    for row in rows:
        row.pad_left(MARGIN)
    space = [Text()] if form.space else []
    return [_headline(stream, sheet, with_words=not form.text_rows), *rows, *space]


# --- the headline ---------------------------------------------------------------------------------


def _headline(stream: StreamState, sheet: Sheet, with_words: bool) -> Text:
    if sheet.width < WIDE:
        label = LABEL_CELLS if sheet.width >= NARROW else 1
        return _short(stream, sheet, max(1, sheet.width - MARGIN - label - 6), label, "bold")
    row = _marked(stream, sheet)
    left = sheet.width - VERDICT_CELLS - 2
    name = min(sheet.name_cells, left - MARGIN - ACTIVITY_CELLS - 2)
    row.append(fit(stream.name, name), "bold").append("  ")
    row.append(fit(_activity(stream, sheet), ACTIVITY_CELLS), QUIET)
    if with_words and left - row.cell_len >= LEAST_WORDS:
        row.append_text(ending(words_of(stream), left - row.cell_len))
    row.pad_right(left + 2 - row.cell_len)
    return row.append_text(_verdict(stream))


def _marked(stream: StreamState, sheet: Sheet) -> Text:
    alerted = stream.alert_unix_s is not None and sheet.now_unix_s - stream.alert_unix_s < ALERT_S
    row = Text("!" if alerted else " ", f"bold {ALERT}")
    if stream.ended is not None:
        broken = bool(stream.ended.reason)
        return row.append("✗ " if broken else "✓ ", ALERT if broken else QUIET)
    if _is_silent(stream, sheet):
        return row.append("✗ ", ALERT)
    if stream.speaking:
        return row.append("● ", "bold")
    return row.append("○ " if stream.live else "▸ ", QUIET)


def _activity(stream: StreamState, sheet: Sheet) -> str:
    position = stream.position(sheet.now_unix_s)
    if stream.ended is not None:
        return f"{'broke' if stream.ended.reason else 'ended'} {clock(position)[:-2]}"
    if _is_silent(stream, sheet):
        return "input is down"
    if not stream.live:
        return f"at {clock(position)[:-2]}"
    if stream.activity is not None:
        start = stream.activity.position
    elif stream.so_far is not None:
        start = stream.so_far.start
    else:
        return "listening"
    elapsed_s = max(0, position - start) // SAMPLE_RATE
    ago = f"{elapsed_s}s" if elapsed_s < 60 else f"{elapsed_s // 60}m"
    return f"{'speaking' if stream.speaking else 'quiet'} {ago}"


def _is_silent(stream: StreamState, sheet: Sheet) -> bool:
    return stream.info is not None and stream.info.front in sheet.silent


def _verdict(stream: StreamState) -> Text:
    verdict = stream.latest
    if verdict is None:
        return Text()
    row = Text().append(fit(verdict.label, LABEL_CELLS), _style(verdict)).append(" ")
    row.append_text(bar(verdict.confidence, BAR_CELLS, COLOURS.get(verdict.label, QUIET)))
    row.append(f" {percent(verdict.confidence)}  ")
    present = len(verdict.votes)
    agreed = f"{round(verdict.agreement * present)} of {present}" if present else "-"
    seconds = f"{stream.latency_ms / 1000:.1f} s" if stream.latency_ms is not None else ""
    when = seconds if verdict.final else "so far"
    return row.append(f"{fit(agreed, 6)} {when:>6.6}", QUIET)


def _short(
    stream: StreamState, sheet: Sheet, name_cells: int, label_cells: int, style: str = ""
) -> Text:
    """Draw name, label and confidence."""
    row = _marked(stream, sheet).append(fit(stream.name, name_cells), style).append(" ")
    verdict = stream.latest
    if verdict is None:
        return row
    label = name_in(verdict.label, 1) if label_cells == 1 else verdict.label
    row.append(fit(label, label_cells), _style(verdict))
    return row.append(f" {percent(verdict.confidence)}")


def _style(verdict: Verdict) -> str:
    return f"{'bold' if verdict.final else 'italic'} {COLOURS.get(verdict.label, QUIET)}"


# --- a stream in one line -------------------------------------------------------------------------


class _Columns(NamedTuple):
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


def _line(stream: StreamState, sheet: Sheet) -> Text:
    """Draw name, label, confidence, and words and a timeline in the rest."""
    columns = _line_columns(sheet.width)
    row = _short(stream, sheet, columns.name, columns.label)
    if not columns.strip:
        return row
    start = sheet.width - columns.strip
    if columns.words:
        row.pad_right(start - columns.words - 2 - row.cell_len)
        row.append_text(ending(words_of(stream), columns.words))
    row.pad_right(start - row.cell_len)
    view = window(stream.position(sheet.now_unix_s), columns.strip, sheet.step)
    return row.append_text(strip(stream, view, sheet.now_unix_s))


def strip_cells(form: Form, width: int) -> int:
    """Return how many cells a timeline has; 0 if it does not fit."""
    return _line_columns(width).strip if form.one_line else max(0, width - MARGIN)


# --- the votes ------------------------------------------------------------------------------------


def _columns(voters: int, width: int) -> int:
    return max(1, min(voters, (width - MARGIN + 2) // (VOTE_CELLS + 2)))


def _votes(
    verdict: Verdict | None, voters: tuple[str, ...], columns: int, cells: int
) -> list[Text]:
    each = (cells + 2) // columns - 2
    name = min(VOTER_CELLS, max(map(cell_len, voters), default=0))
    rows = []
    for first in range(0, len(voters), columns):
        row = Text()
        for i, voter in enumerate(voters[first : first + columns]):
            row.pad_right(i * (each + 2) - row.cell_len)
            row.append(fit(voter, name), QUIET).append(" ")
            row.append_text(_vote(verdict, voter, each - name - 1))
        rows.append(row)
    return rows


def _vote(verdict: Verdict | None, voter: str, room: int) -> Text:
    """Draw label and share, why it is missing, or nothing while it is awaited."""
    if verdict is None:
        return Text()
    vote = next((v for v in verdict.votes if v.voter == voter), None)
    if vote is None:
        reason = next((m.reason for m in verdict.missing if m.voter == voter), "")
        failed = reason and verdict.final  # else it may still come
        row = Text("✗ ", f"bold {ALERT}") if failed else Text("… ", QUIET)
        return row.append(fit(reason, room - 2), QUIET)
    row = Text().append(fit(vote.label, LABEL_CELLS), COLOURS.get(vote.label, QUIET)).append(" ")
    shares = _shares(vote)
    if not shares:
        return row
    claim, bar_cells = shares.pop(vote.label, None), min(2 * BAR_CELLS, room - LABEL_CELLS - 6)
    if bar_cells >= 4:
        row.append_text(bar(claim, bar_cells, COLOURS.get(vote.label, QUIET))).append(" ")
    row.append(percent(claim))
    for label, share in list(shares.items())[:3]:
        text = f"{label} {share:.0%}"
        if share < 0.01 or room - row.cell_len < 3 + len(text):
            break
        row.append("   ").append(label, COLOURS.get(label, QUIET)).append(text[len(label) :])
    row.truncate(max(0, room))
    return row


def _shares(vote: Vote) -> dict[str, float]:
    """Return labels and their probabilities, the most probable first."""
    if vote.probabilities is None or vote.label == UNKNOWN:
        return {}
    pairs = zip(LABELS, vote.probabilities, strict=False)
    return dict(sorted(pairs, key=lambda entry: -entry[1]))


# --- the words ------------------------------------------------------------------------------------


def words_of(stream: StreamState) -> Text:
    """Return what was said, or why there are no words or no label.

    As long as nothing is known of the speech that goes on, the words before it can still be read.
    """
    if stream.so_far is not None:
        return _words(stream.so_far, "") or _words(stream.verdict, QUIET)
    return _words(stream.verdict, "")


def _words(verdict: Verdict | None, style: str) -> Text:
    row = Text()
    if verdict is None:
        return row
    if verdict.reason and verdict.final:
        row.append(f"no label: {clean(verdict.reason)} ", QUIET)
    transcript = verdict.transcript
    if transcript is None:
        return row
    words = clean(transcript.text).split()
    if words:
        stable = len(words) if transcript.final else transcript.stable
        end = "”" if transcript.final else " …"
        words[0], words[-1] = f"“{words[0]}", f"{words[-1]}{end}"
        row.append(" ".join(words[:stable]), style).append(" " if 0 < stable < len(words) else "")
        row.append(" ".join(words[stable:]), UNSTABLE)
    elif transcript.final and transcript.reason:
        row.append(f"no words: {clean(transcript.reason)}", QUIET)
    return row


def folded(words: Text, width: int, lines: int) -> list[Text]:
    """Fold words into exactly `lines` rows; of a longer text, the end, which is the latest.

    They are folded from the beginning, so that a text that grows moves up by whole lines.
    """
    if lines == 1:
        return [ending(words, width)]
    # what is cut begins with a mark, for which there is room in every line
    rows = fold(words, width - len(CUT))
    if len(rows) > lines > 0:
        rows = rows[-lines:]
        rows[0] = Text(CUT, QUIET).append_text(rows[0])
    return rows[:lines] + [Text() for _ in range(lines - len(rows))]


def ending(words: Text, width: int) -> Text:
    """Return the last words that fit into a line."""
    words.rstrip()
    if words.cell_len <= width:
        return words
    plain, room = words.plain, width - len(CUT)
    at = len(plain)
    while at and (room := room - cell_len(plain[at - 1])) >= 0:
        at -= 1
    if plain[at - 1 : at] != " " and 0 <= (space := plain.find(" ", at)) < len(plain) - 1:
        at = space + 1  # else it is one word, or a script without spaces
    return Text(CUT, QUIET).append_text(words[at:])
