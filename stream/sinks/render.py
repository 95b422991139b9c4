"""Formats events as lines of text for people; pure functions.

A label is always shown as a word, not only by its colour (`palette.py`).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.models.text import clean
from abhinaya.models.vote.ensemble import NOT_ASKED
from abhinaya.stream.clock import to_seconds
from abhinaya.stream.settings.rules import Alert
from abhinaya.stream.sinks.events import latency_ms
from abhinaya.stream.sinks.palette import ALERT, COLOURS, QUIET
from abhinaya.stream.sinks.summary import StreamSummary, Summary
from abhinaya.stream.wire.messages import Gap, Verdict, Vote

LABEL_CELLS: Final = max(map(len, (*LABELS, UNKNOWN)))
STREAM_CELLS: Final = 10
BAR_CELLS: Final = 10
BAR_FROM_WIDTH: Final = 60
"""Narrower terminals have no room for a bar."""
INDENT: Final = " " * 11
"""Indent of continuation lines: as wide as the time and the space after it."""


_FOLDER: Final = Console(file=io.StringIO())
"""`Text.wrap` requires a console, but does not use it here."""


def clock(samples: int) -> str:
    """Return a position in samples as h:mm:ss.s."""
    tenths = round(to_seconds(samples) * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{tenths // 10:02}.{tenths % 10}"


def fit(text: str, cells: int) -> str:
    """Return text exactly `cells` wide, cut with an ellipsis if it is longer."""
    if cells <= 0:
        return ""
    text = clean(text)
    if cell_len(text) > cells:
        text = set_cell_size(text, cells - 1).rstrip() + "…"
    return set_cell_size(text, cells)


def percent(value: float | None) -> str:
    """Return a fraction as a percentage, four characters wide; a dash if it is unknown."""
    return f"{value:4.0%}" if value is not None else "   -"


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def alert_sentence(alert: Alert) -> str:
    """Return an alert as one line, without the transcript."""
    length = f"{count(alert.segments, 'segment')}, {to_seconds(alert.speech):.1f} s"
    sure = f", {alert.confidence:.0%}" if alert.confidence is not None else ""
    return (
        f"alert {alert.rule}: {alert.stream} {alert.label} at {clock(alert.end)} ({length}{sure})"
    )


def bar(share: float | None, cells: int, colour: str) -> Text:
    """Return a fraction as a bar, exact to half a cell."""
    halves = round(2 * cells * min(1.0, max(0.0, share or 0.0)))
    full = "━" * (halves // 2) + "╸" * (halves % 2)
    return Text().append(full, colour).append("─" * (cells - len(full)), f"{QUIET} dim")


def fold(text: Text, width: int) -> list[Text]:
    """Fold text at spaces; a word longer than a line is cut."""
    return list(text.wrap(_FOLDER, max(width, 1), overflow="fold")) if text else []


# --- a terminal -----------------------------------------------------------------------------------


def verdict_lines(event: Verdict, now_unix_s: float, width: int) -> Iterator[Text]:
    """Yield the lines of a verdict: the label, the transcript, the votes."""
    yield _headline(event, now_unix_s, width)
    for text in _words(event):
        yield from _hanging(Text(INDENT), Text(text, QUIET), width)
    yield from _hanging(Text(INDENT), _ballots(event), width)


def _headline(event: Verdict, now_unix_s: float, width: int) -> Text:
    colour = COLOURS.get(event.label, QUIET)
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(clock(event.start), QUIET)
    line.append("  " + fit(event.stream, STREAM_CELLS) + "  ")
    line.append(fit(event.label, LABEL_CELLS), f"bold {colour}")
    if width >= BAR_FROM_WIDTH:
        line.append("  ").append_text(bar(event.confidence, BAR_CELLS, colour))
    line.append(" " + percent(event.confidence))
    marks = []
    if event.revision:
        marks.append("revised" if event.revision == 1 else f"revision {event.revision}")
    if not event.final:
        marks.append("so far")
    marks.append(f"{latency_ms(event, now_unix_s)['total'] / 1000:.1f} s")
    tail = "  ".join(marks)
    if line.cell_len + 2 + cell_len(tail) > width:
        # no room: leave out the latency
        tail = "  ".join(marks[:-1])
    line.append(" " * max(2, width - line.cell_len - cell_len(tail)))
    line.append(tail, QUIET)
    line.truncate(width, overflow="ellipsis")
    return line


def _words(event: Verdict) -> Iterator[str]:
    """Yield why there is no label, then the transcript or why there is none."""
    if event.reason:
        yield f"no label: {clean(event.reason)}"
    if event.transcript is None:
        return
    if event.transcript.text:
        yield f"“{clean(event.transcript.text)}”"
        if event.transcript.translation:
            yield f"in English: “{clean(event.transcript.translation)}”"
    elif event.transcript.reason:
        yield f"no words: {clean(event.transcript.reason)}"


def _ballots(event: Verdict) -> Text:
    votes = []
    for vote in event.votes:
        text = Text(clean(vote.voter) + "\u00a0", QUIET)
        text.append(clean(vote.label) or str(vote.attributes), COLOURS.get(vote.label, QUIET))
        claim = "" if (share := _claim(vote)) is None else f"\u00a0{share:.0%}"
        votes.append(text.append(claim, QUIET))
    for missing in event.missing:
        if missing.reason != NOT_ASKED:
            votes.append(
                Text(f"{clean(missing.voter)}\u00a0missing: {clean(missing.reason)}", ALERT)
            )
    if event.attributes is not None:
        votes.append(Text(str(event.attributes), QUIET))
    return Text("   ").join(votes)


def gap_lines(event: Gap, width: int) -> Iterator[Text]:
    """Yield the lines of a gap: more than one only if its reason is long."""
    body = Text(fit(event.stream, STREAM_CELLS) + "  ")
    body.append(fit("gap", LABEL_CELLS), f"bold {ALERT}")
    seconds = to_seconds(event.end - event.start)
    body.append(f"  {seconds:.1f} s not heard: {clean(event.reason)}")
    yield from _hanging(Text(clock(event.start) + "  ", QUIET), body, width)


def wrap_note(text: str, width: int, style: str = QUIET, mark: str = "·") -> Iterator[Text]:
    """Yield the lines of a note about a process or a stream."""
    yield from _hanging(Text(f"{mark:>9}  ", style), Text(clean(text), style), width)


def _hanging(head: Text, body: Text, width: int) -> Iterator[Text]:
    """Yield the folded lines of a body: the head before the first, the indent before the others."""
    for row in fold(body, max(width - len(INDENT), 12)):
        yield Text().append_text(head).append_text(row)
        head = Text(INDENT)


# --- not a terminal -------------------------------------------------------------------------------


def plain_verdict(event: Verdict, now_unix_s: float) -> str:
    """Return a verdict as one line of fixed columns, with the free text last."""
    votes = [_plain_vote(vote) for vote in event.votes]
    votes += [
        f"{clean(m.voter)}=" + ("-" if m.reason == NOT_ASKED else f"missing({clean(m.reason)})")
        for m in event.missing
    ]
    if event.attributes is not None:
        votes += [f"{name}={value:.1f}" for name, value in event.attributes._asdict().items()]
    confidence = "    -" if event.confidence is None else f"{event.confidence:5.3f}"
    mark = f"r{event.revision}" if event.final else "..."
    columns = [
        clock(event.start),
        clock(event.end),
        fit(event.stream, STREAM_CELLS),
        fit(event.label, LABEL_CELLS),
        confidence,
        f"{event.agreement:4.2f}",
        f"{latency_ms(event, now_unix_s)['total']:6.0f}ms",
        mark,
        " ".join(votes),
        " ".join(_words(event)),
    ]
    return "  ".join(columns).rstrip()


def plain_gap(event: Gap) -> str:
    """Return a gap as one line, in the columns of a verdict."""
    columns = [
        clock(event.start),
        clock(event.end),
        fit(event.stream, STREAM_CELLS),
        fit("gap", LABEL_CELLS),
        clean(event.reason),
    ]
    return "  ".join(columns)


def _plain_vote(vote: Vote) -> str:
    claim, said = _claim(vote), clean(vote.label) or str(vote.attributes).replace(" ", "")
    return f"{clean(vote.voter)}={said}" + (f":{claim:.2f}" if claim else "")


def _claim(vote: Vote) -> float | None:
    """Return the probability that a voter gives to its own label."""
    if vote.probabilities is None or vote.label not in LABELS:
        return None
    return vote.probabilities[LABELS.index(vote.label)]


# --- the end --------------------------------------------------------------------------------------


def summary_table(summary: Summary, width: int) -> Table:
    """Return the summary as a table: a row for each stream."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=f"bold {QUIET}")
    table.add_column("stream", overflow="fold")
    table.add_column("share of speech", overflow="fold", ratio=1)
    table.add_column("speech", justify="right")
    for heading in ("segments", "gaps") if width >= BAR_FROM_WIDTH else ("seg", "gaps"):
        table.add_column(heading, justify="right")
    if width >= BAR_FROM_WIDTH:
        table.add_column("p50 / p95", justify="right")
    for name, stream in summary.streams.items():
        row: list[RenderableType] = [
            Text(clean(name)),
            _emotions(stream),
            f"{to_seconds(stream.speech):.1f} s",
            str(stream.segments),
            Text(str(stream.gaps), style=ALERT if stream.gaps else ""),
        ]
        if width >= BAR_FROM_WIDTH:
            row.append(_latencies(stream))
        table.add_row(*row)
    return table


def _emotions(stream: StreamSummary) -> Text:
    if nothing := stream.not_processed or (stream.silent and stream.silence):
        return Text(clean(nothing), style=QUIET)
    text = Text()
    for label, samples in _ranking(stream):
        if text:
            text.append(", ")
        text.append(f"{label}\u00a0{samples / max(stream.speech, 1):.0%}", style=COLOURS[label])
    return text


def _ranking(stream: StreamSummary) -> list[tuple[str, int]]:
    """Return (label, length of its speech in samples), the longest first."""
    order = [*LABELS, UNKNOWN]
    held = [(label, stream.emotions[label]) for label in order if stream.emotions[label] > 0]
    return sorted(held, key=lambda item: -item[1])


def _latencies(stream: StreamSummary) -> str:
    p50, p95 = stream.latency.quantile(0.5), stream.latency.quantile(0.95)
    if p50 is None or p95 is None:
        return "-"
    return f"{p50 / 1000:.1f} / {p95 / 1000:.1f} s"


def summary_details(summary: Summary) -> Iterator[str]:
    """Yield further lines: the reasons of gaps, and how many segments lacked a vote."""
    for name, stream in summary.streams.items():
        for reason, count in stream.gap_reasons.most_common():
            yield f"{clean(name)}: {count} lost, {clean(reason)}"
        if stream.gaps:
            yield f"{clean(name)}: {to_seconds(stream.gap_samples):.1f} s without a label"
        if stream.segments and stream.sound_note:
            yield f"{clean(name)}: {clean(stream.sound_note)}"
        if stream.incomplete:
            yield f"{clean(name)}: {stream.incomplete} of {stream.segments} without every voter"


def plain_summary(summary: Summary) -> Iterator[str]:
    """Yield the summary as lines of text."""
    for name, stream in summary.streams.items():
        if nothing := stream.not_processed or (stream.silent and stream.silence):
            yield f"summary  {clean(name)}  {clean(nothing)}"
            continue
        shares = " ".join(
            f"{label}={to_seconds(samples):.1f}s" for label, samples in _ranking(stream)
        )
        yield (
            f"summary  {clean(name)}  {shares or '-'}  speech={to_seconds(stream.speech):.1f}s"
            f"  segments={stream.segments}  gaps={stream.gaps}  latency={_latencies(stream)}"
        )
    for detail in summary_details(summary):
        yield f"summary  {detail}"
