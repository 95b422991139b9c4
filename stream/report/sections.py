"""The parts of the page, each from the account to HTML."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Final

from abhinaya.models.labels import LABELS
from abhinaya.stream.report.bins import LOST
from abhinaya.stream.report.gather import Account, StreamAccount
from abhinaya.stream.report.html import clock, count, kind, length, mark, percent, table, text
from abhinaya.stream.report.timeline import timeline

QUARTERS: Final = ("1st quarter", "2nd quarter", "3rd quarter", "4th quarter")
CHANGES: Final = 12
"""Change points of a stream that are listed; the timeline shows them all."""
GAPS: Final = 200
"""Gaps that are listed."""


def facts(account: Account) -> str:
    """Give the figures of the whole run."""
    streams = account.streams.values()
    speech_s = sum(stream.shares.speech_s for stream in streams)
    gaps_s = sum(gap.end_s - gap.start_s for stream in streams for gap in stream.gaps)
    shown = [
        ("length", length(account.duration_s)),
        ("streams", str(len(account.streams))),
        ("speech", length(speech_s)),
        ("segments", f"{sum(len(s.segments) for s in streams):,}"),
        ("not heard", length(gaps_s) if gaps_s else "nothing"),
    ]
    if account.latencies_ms:
        shown.append(("median latency", f"{median(account.latencies_ms) / 1000:.1f} s"))
    items = "".join(f"<div><dt>{text(k)}</dt><dd>{text(v)}</dd></div>" for k, v in shown)
    return f'<dl class="facts">{items}</dl>'


def stream(account: Account, one: StreamAccount) -> str:
    """Give a stream: its timeline, its shares and what changed."""
    about = [text(one.began.source)] if one.began and one.began.source else []
    if one.began and one.began.wall_time:
        about.append(f"from {text(one.began.wall_time)}")
    about.append(length(one.duration_s))
    about.append(count(len(one.segments), "segment"))
    if not one.ended:
        about.append("its end was not written")
    return (
        f'<section class="card"><h3>{text(one.name)}</h3>'
        f'<p class="quiet">{" · ".join(about)}</p>'
        f"{timeline(one, account.duration_s)}{_shares(one)}{_changes(one)}"
        "</section>"
    )


def _shares(one: StreamAccount) -> str:
    if not one.labels:
        return ""
    bar = "".join(
        f'<i class="{kind(label)}" style="flex-grow:{one.shares.seconds[label]:.3f}"></i>'
        for label in one.labels
    )
    parts = list(one.bins.parts(one.duration_s))
    totals = [sum(s for label, s in part.items() if label != LOST) for part in parts]
    rows = []
    for label in one.labels:
        run = one.shares.longest[label]
        quarters = zip(parts, totals, strict=True)
        rows.append(
            (
                mark(label),
                percent(one.shares.share(label)),
                length(one.shares.seconds[label]),
                f"{length(run.length_s)} from {clock(run.start_s)}",
                *(
                    percent(part.get(label, 0) / total if total else None)
                    for part, total in quarters
                ),
            )
        )
    head = ("emotion", "share", "speech", "longest run", *QUARTERS)
    return f'<div class="bar" aria-hidden="true">{bar}</div>' + table(head, rows, "Share of speech")


def _changes(one: StreamAccount) -> str:
    changes = one.track.changes
    if not changes:
        return ""
    items = "".join(
        f"<li><time>{clock(c.at_s)}</time> {mark(c.after)}</li>" for c in changes[:CHANGES]
    )
    more = len(changes) - CHANGES
    tail = f'<li class="quiet">and {more:,} more</li>' if more > 0 else ""
    return f'<h4>Mood, smoothed</h4><ol class="changes">{items}{tail}</ol>'


def conversations(account: Account) -> Iterator[str]:
    """Yield for each call with several channels who talks when."""
    for name, talk in account.talks.items():
        rows = [
            (
                text(channel.rpartition("/")[2]),
                percent(talk.share(channel)),
                length(one.talk_s),
                str(one.turns),
                str(one.interruptions),
            )
            for channel, one in talk.channels.items()
        ]
        head = ("channel", "share of talk", "talk", "turns", "interruptions")
        yield (
            f'<section class="card"><h3>{text(name)}</h3>'
            + table(head, rows, "Who talks")
            + f"<p>Nobody spoke for {length(talk.silence_s)}, at the longest for "
            f"{length(talk.longest_silence_s)}; {count(talk.dead_air, 'silence')} of 3 s or more. "
            f"Both spoke at once for {length(talk.overlap_s)}.</p></section>"
        )


def voters(account: Account) -> str:
    """Give the voters: what they voted, how often with the verdict, and when they were missing."""
    rows = []
    for name, voter in sorted(account.voters.items()):
        most = ", ".join(
            f"{mark(label)} {percent(n / voter.votes)}" for label, n in voter.labels.most_common(3)
        )
        why = "; ".join(
            f"{count(n, 'time')} {text(reason)}" for reason, n in voter.missing.most_common(3)
        )
        rows.append(
            (
                text(name),
                text(", ".join(sorted(voter.models)) or "-"),
                f"{voter.votes:,}",
                percent(voter.agreed / voter.votes if voter.votes else None),
                most or "-",
                why or "never",
            )
        )
    head = ("voter", "model", "votes", "with the verdict", "most often", "missing")
    return table(head, rows, "Votes") if rows else '<p class="quiet">Nobody voted.</p>'


def gaps(account: Account) -> str:
    """Give what was not heard, and what went wrong on the way."""
    lost = [(one.name, gap) for one in account.streams.values() for gap in one.gaps]
    parts = []
    if lost:
        rows = [
            (
                clock(gap.start_s),
                text(name),
                length(gap.end_s - gap.start_s),
                text(gap.reason),
            )
            for name, gap in lost[:GAPS]
        ]
        parts.append(table(("from", "stream", "length", "reason"), rows, "Not heard"))
        if len(lost) > GAPS:
            parts.append(f'<p class="quiet">and {len(lost) - GAPS:,} more gaps</p>')
    items = "".join(f"<li>{text(trouble)}</li>" for trouble in account.troubles)
    if account.more_troubles:
        items += f"<li>and {account.more_troubles:,} more</li>"
    if items:
        parts.append(f"<ul>{items}</ul>")
    return "".join(parts) or '<p class="quiet">Everything was heard, and nothing failed.</p>'


def legend() -> str:
    """Give every label with its colour."""
    return '<p class="legend">' + " ".join(mark(label) for label in LABELS) + "</p>"
