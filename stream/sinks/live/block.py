"""Draws one stream of the live view: headline, timeline, transcript and votes.

Each form has a fixed height, so that nothing moves when somebody begins to speak.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from rich.cells import cell_len
from rich.text import Text

from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.models.text import clean
from abhinaya.models.vote.ensemble import NOT_ASKED
from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.sinks.live.board import StreamState
from abhinaya.stream.sinks.live.timeline import mood_strip, name_in, strip, window
from abhinaya.stream.sinks.palette import ALERT, COLOURS, QUIET
from abhinaya.stream.sinks.render import LABEL_CELLS, bar, clock, fit, fold, percent
from abhinaya.stream.wire.messages import Verdict, Vote

MARGIN: Final = 3
"""Cells at the left for the marks of alerts and speech."""
ALERT_S: Final = 60.0
"""Seconds for which an alert is shown."""
UNSTABLE: Final = "dim italic"
"""Style of words that may still change. Some terminals support only one of the two."""
CUT: Final = "… "
"""Mark in front of a text whose beginning is cut off."""

ACTIVITY_CELLS: Final = 13
BAR_CELLS: Final = 10
VERDICT_CELLS: Final = LABEL_CELLS + 1 + BAR_CELLS + 1 + 4 + 2 + 6 + 1 + 6
WIDE: Final = 68
"""From this width on, the headline shows a bar, the agreement and the latency."""
NARROW: Final = 36
"""Below this width, labels are shown as one letter."""
VOTE_CELLS: Final = 24
"""Minimum width of a vote in the grid."""
VOTER_CELLS: Final = 8
NAME_CELLS: Final = 16
"""Maximum width of a stream's name in the one-line form."""
LEAST_STRIP: Final = 8
"""Minimum width of a timeline."""
MOST_STRIP: Final = 60
"""Width of a timeline that shares its line with words."""
LEAST_WORDS: Final = 16
"""Minimum width of words that share a line."""


class Form(NamedTuple):
    """Which parts of a stream are shown."""

    mood: bool
    text_rows: int
    votes: str
    """`rows`: one vote a row; `grid`: several votes a row; empty: no votes."""
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
"""All forms, from the largest to the smallest."""


class Sheet(NamedTuple):
    """Values that all blocks of one picture share."""

    width: int
    step: int
    """Samples in a cell of a timeline."""
    now_unix_s: float
    name_cells: int
    """Width of the longest stream name."""
    voters: tuple[str, ...]
    down: frozenset[str]
    """Names of the nodes and fronts that are down."""


def height(form: Form, voters: int, width: int) -> int:
    """Return the number of rows of a stream."""
    if form.one_line:
        return 1
    votes = {"rows": voters, "grid": -(-voters // _columns(voters, width))}.get(form.votes, 0)
    return 2 + form.mood + form.text_rows + votes + form.space


def block(stream: StreamState, form: Form, sheet: Sheet) -> list[Text]:
    """Return the rows of a stream, as many as `height` returns."""
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
    rated = f"  {stream.latest.attributes}" if stream.latest and stream.latest.attributes else ""
    if rated and left - row.cell_len >= len(rated):
        row.append(rated, QUIET)
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
    if _is_down(stream, sheet):
        return row.append("✗ ", ALERT)
    if stream.speaking:
        return row.append("● ", "bold")
    return row.append("○ " if stream.live else "▸ ", QUIET)


def _activity(stream: StreamState, sheet: Sheet) -> str:
    position = stream.position(sheet.now_unix_s)
    if stream.ended is not None:
        return f"{'broke' if stream.ended.reason else 'ended'} {clock(position)[:-2]}"
    if _is_down(stream, sheet):
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


def _is_down(stream: StreamState, sheet: Sheet) -> bool:
    return stream.info is not None and stream.info.front in sheet.down


def _verdict(stream: StreamState) -> Text:
    verdict = stream.latest
    if verdict is None:
        return Text()
    row = Text().append(fit(verdict.label, LABEL_CELLS), _style(verdict)).append(" ")
    row.append_text(bar(verdict.confidence, BAR_CELLS, COLOURS.get(verdict.label, QUIET)))
    row.append(f" {percent(verdict.confidence)}  ")
    present = sum(bool(vote.label) for vote in verdict.votes)
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
    """Draw name, label and confidence, then words and a timeline as far as they fit."""
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
    """Return the width of a timeline; 0 if it does not fit."""
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
    """Draw the label and probabilities of a vote, or why it is missing."""
    if verdict is None:
        return Text()
    vote = next((v for v in verdict.votes if v.voter == voter), None)
    if vote is None:
        reason = next((m.reason for m in verdict.missing if m.voter == voter), "")
        failed = reason and verdict.final  # else it may still come
        row = Text("✗ ", f"bold {ALERT}") if failed else Text("… ", QUIET)
        row = Text("\u2013 ", QUIET) if reason == NOT_ASKED else row
        return row.append(fit(reason, room - 2), QUIET)
    if not vote.label:
        return Text(fit(str(vote.attributes), room), QUIET)
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
    """Return the transcript, or why there are no words or no label.

    Until the current speech has a transcript, the one of the segment before is shown.
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
    """Fold words into exactly `lines` rows; of a longer text, the end is shown.

    Folding starts at the beginning of the text, so that a growing text moves up by whole lines.
    """
    if lines == 1:
        return [ending(words, width)]
    # every line leaves room for the mark of a cut text
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
        at = space + 1  # cut at a space, unless it is one word or a script without spaces
    return Text(CUT, QUIET).append_text(words[at:])
