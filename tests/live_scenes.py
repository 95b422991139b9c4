"""Planted events for the live view: streams whose every moment is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fakes import SECOND, info, node_up, verdict, vote
from msgspec.structs import replace
from output_fakes import gap, said
from rich.console import Group
from rich.text import Text

from abhinaya.models.labels import LABELS
from abhinaya.stream.settings.rules import Alert
from abhinaya.stream.sinks.live import picture as drawing
from abhinaya.stream.sinks.live.board import Board
from abhinaya.stream.wire.messages import (
    Activity,
    Event,
    Missing,
    NodeLoad,
    NodeUp,
    Status,
    StreamStarted,
    Transcript,
    Verdict,
    Vote,
)

START = 1_000_000.0
"""When every planted stream began, in Unix seconds."""

AGENT, CUSTOMER = "call/agent", "call/customer"

SCRIPT = (
    (1.0, 5.5, "neutral", "good morning you are speaking with anna how can i help you"),
    (12.0, 20.5, "angry", "you charged me twice and nobody answers my letters this is outrageous"),
    (28.0, 34.0, "sad", "i am so sorry to hear that let me look at your account"),
    (36.0, 38.5, "neutral", "thank you"),
    (44.0, 53.0, "happy", "oh that is wonderful thank you so much you have made my day"),
)
"""Start and end in seconds, label, and words."""


def probabilities(label: str, share: float) -> tuple[float, ...]:
    """Give `label` its share, half of the rest to the next label, and the rest to the others."""
    rest = [name for name in LABELS if name != label]
    next_one = rest[LABELS.index(label) % len(rest)]
    others = (1 - share) / 2 / (len(rest) - 1)
    return tuple(
        share if name == label else (1 - share) / 2 if name == next_one else others
        for name in LABELS
    )


def ballot(stream: str, sequence: int, voter: str, label: str, share: float, part: int = 0) -> Vote:
    cast = vote(sequence, voter, label, stream, part)
    return replace(cast, probabilities=probabilities(label, share), model="planted")


def words(stream: str, sequence: int, text: str, part: int = 0, stable: int = 0) -> Transcript:
    bare = said(text, sequence, stream)
    return replace(bare, part=part, stable=stable, confidence=None, language="", model="planted")


def decided(
    sequence: int,
    start_s: float,
    end_s: float,
    label: str,
    text: str = "",
    stream: str = "call/agent",
    **changes: Any,
) -> Verdict:
    """A verdict of S1, T2 and ST1 (who dissents), 1.2 s after the end of speech."""
    said = label if label in LABELS else "happy"
    other = "neutral" if label != "neutral" else "sad"
    fields: dict[str, Any] = {
        "start": int(start_s * SECOND),
        "end": int(end_s * SECOND),
        "label": label,
        "confidence": 0.62,
        "agreement": 2 / 3,
        "votes": (
            ballot(stream, sequence, "S1", said, 0.91),
            ballot(stream, sequence, "T2", said, 0.64),
            ballot(stream, sequence, "ST1", other, 0.48),
        ),
        "transcript": words(stream, sequence, text),
        "start_unix_s": START + start_s,
        "captured_unix_s": START + end_s,
    }
    return verdict(sequence, stream, **(fields | changes))


def so_far(
    sequence: int,
    start_s: float,
    end_s: float,
    label: str,
    text: str,
    stable: int,
    stream: str = "call/agent",
    part: int = 1,
) -> Verdict:
    """What S1 and T2 say while somebody goes on speaking."""
    return decided(
        sequence,
        start_s,
        end_s,
        label,
        stream=stream,
        part=part,
        confidence=0.55,
        agreement=1.0,
        votes=(
            ballot(stream, sequence, "S1", label, 0.58, part),
            ballot(stream, sequence, "T2", label, 0.52, part),
        ),
        transcript=words(stream, sequence, text, part, stable),
    )


def missing(event: Verdict, voter: str, reason: str) -> Verdict:
    """The same verdict without one of its votes."""
    votes = tuple(vote for vote in event.votes if vote.voter != voter)
    return replace(
        event, votes=votes, agreement=1.0, missing=(Missing(voter=voter, reason=reason),)
    )


def started(stream: str, live: bool = True) -> StreamStarted:
    return StreamStarted(info=replace(info(stream, live), source="mic", input="", run=""))


def alerted(rule: str, stream: str, **changes: Any) -> Alert:
    fields: dict[str, Any] = {
        "rule": rule,
        "stream": stream,
        "label": "angry",
        "sequence": 1,
        "first_sequence": 1,
        "start": 12 * SECOND,
        "end": 20 * SECOND,
        "start_unix_s": START,
        "speech": 8 * SECOND,
        "segments": 2,
        "confidence": 0.71,
        "text": "",
    }
    return Alert(**(fields | changes))


def speaks(stream: str, at_s: float, speaking: bool = True) -> Activity:
    return Activity(stream=stream, position=int(at_s * SECOND), speaking=speaking)


def nodes(*voters: str) -> Iterator[NodeUp]:
    for service in ("asr", *voters):
        gives: Any = "transcript" if service == "asr" else "vote"
        yield replace(node_up(f"{service}-0", service), gives=gives, model="planted")


def status(waiting: int = 0, open_segments: int = 1, **changes: Any) -> Status:
    fields: dict[str, Any] = {
        "hub": "h",
        "waiting": waiting,
        "open_segments": open_segments,
        "nodes": (NodeLoad(node="S1-0", service="S1", held=0, done=9, checked_s=2.5),),
        "fronts": ("front-0",),
        "refused": {},
        "doubles": 0,
    }
    return Status(**(fields | changes))


def told(stream: str, script: Sequence[tuple[float, float, str, str]] = SCRIPT) -> Iterator[Event]:
    """Yield a stream that has spoken: beginnings, ends and verdicts."""
    for sequence, (start_s, end_s, label, text) in enumerate(script):
        yield speaks(stream, start_s)
        yield speaks(stream, end_s, False)
        yield decided(sequence, start_s, end_s, label, text, stream)


def board_of(*events: Event) -> Board:
    """Show events to a board, each verdict 1.2 s after its speech."""
    board = Board()
    for event in events:
        now = event.captured_unix_s + 1.2 if isinstance(event, Verdict) else START
        board.see(event, now)
    return board


NOW = START + 71.5


def call() -> Board:
    """A call: the agent has lost three seconds and a vote, the customer is speaking."""
    last = decided(6, 68, 70, "surprise", "wow really", AGENT)
    return board_of(
        *nodes("S1", "T2", "ST1"),
        status(),
        started(AGENT),
        *told(AGENT),
        gap(5, 64, 67, AGENT),
        missing(last, "T2", "no answer in 4 s"),
        started(CUSTOMER),
        *told(CUSTOMER, [(a + 3.7, b + 3.7, label, text) for a, b, label, text in SCRIPT]),
        speaks(CUSTOMER, 66),
        so_far(5, 66, 70, "fear", "and then i heard something outside and", 4, CUSTOMER),
    )


class Drawn(list[Text]):
    """The lines of a picture, as something to look at."""

    @property
    def text(self) -> str:
        return "\n".join(row.plain.rstrip() for row in self)

    @property
    def widths(self) -> list[int]:
        return [row.cell_len for row in self]

    def __rich__(self) -> Group:
        return Group(*self)


def picture(board: Board, width: int, rows: int, now_unix_s: float) -> Drawn:
    return Drawn(drawing.picture(board, width, rows, now_unix_s))
