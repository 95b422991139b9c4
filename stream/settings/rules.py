"""When to tell a person: verdicts in, alerts out. Pure; the samples of a stream are the clock.

A rule counts segments of one stream that follow each other and carry its label. Another label, or
a gap, begins the count anew. A segment counts in one alert of a rule at most: a revision of it, or
a further segment, never tells again what has been told. An alert is not taken back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import urlsplit

from abhinaya.models.fields import setting
from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.stream.clock import to_seconds
from abhinaya.stream.wire.messages import Event, Gap, StreamEnded, Verdict

REVISABLE: Final = 256
"""Segments of a stream of which a revision can still fire a rule."""
LONGEST: Final = 1024
"""Segments in a row that are remembered; of the run of a rule in its cool-down, the latest."""


@dataclass(frozen=True, slots=True)
class RuleConfig:
    """A rule: what to look for, and whom to tell besides the view and the files."""

    name: str = setting(doc="what the alert is called")
    label: str = setting(doc="label to look for, or `unknown`", choices=(*LABELS, UNKNOWN))
    stream: str = setting("*", doc="pattern of the stream's name, with * and ?")
    channel: str = setting(
        "*", doc="pattern of the channel: what stands behind the last slash of the stream's name"
    )
    min_confidence: float = setting(
        0.0, doc="confidence that a segment must have to count", least=0, most=1
    )
    for_segments: int = setting(
        1, doc="segments in a row that must carry the label", least=1, most=256
    )
    for_seconds: float = setting(
        0.0, doc="seconds of speech that these segments must hold in sum", least=0, most=240
    )
    cool_down_s: float = setting(
        30.0,
        doc="seconds of a stream from one alert of the rule to the next, at least",
        least=0,
        most=86_400,
    )
    command: tuple[str, ...] = setting(
        (), doc="program and arguments to run, with the alert as JSON on its standard input"
    )
    command_timeout_s: float = setting(
        10.0, doc="seconds after which the command is killed", least=0.1, most=600
    )
    webhook: str = setting("", doc="http(s) address that the alert is posted to as JSON")
    webhook_secret_env: str = setting(
        "", doc="environment variable with the secret that signs what is posted; none: unsigned"
    )
    webhook_timeout_s: float = setting(
        10.0, doc="seconds that each step of a post may take", least=0.1, most=120
    )
    webhook_attempts: int = setting(5, doc="times that a post is tried", least=1, most=10)


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule has found what it looks for. Positions are samples of the stream."""

    rule: str
    stream: str
    label: str
    sequence: int
    """The segment that completed it: the last of them."""
    first_sequence: int
    start: int
    """Of the first segment."""
    end: int
    """Of the last."""
    start_unix_s: float
    """Wall-clock time of `start`."""
    speech: int
    """Samples in the segments."""
    segments: int
    confidence: float | None
    """Mean over the segments; None if the voters give no probabilities."""
    text: str
    """What was said in the last segment, if it is known."""


@dataclass(slots=True)
class _Judged:
    """What one rule makes of one segment, or of a gap."""

    sequence: int
    start: int
    end: int
    start_unix_s: float
    confidence: float | None
    text: str
    counts: bool
    used: bool = False
    """Whether it has been part of an alert."""

    @property
    def open(self) -> bool:
        """Whether it may be part of the next alert."""
        return self.counts and not self.used


@dataclass(slots=True)
class _Track:
    """One rule on one stream: the latest segments in their order, and the end of the last alert."""

    judged: deque[_Judged] = field(default_factory=lambda: deque(maxlen=LONGEST))
    last_end: int | None = None


class Watch:
    """Looks at the events of a run with every rule.

    Args:
        rules: what to look for.

    """

    def __init__(self, rules: Sequence[RuleConfig]) -> None:
        self._rules = rules
        self._tracks: dict[str, list[tuple[RuleConfig, _Track]]] = {}

    def see(self, event: Event) -> list[Alert]:
        """Take an event; give the alerts that it completes, in the order of the rules.

        Provisional verdicts count for nothing.
        """
        if isinstance(event, StreamEnded):
            self._tracks.pop(event.stream, None)
        if isinstance(event, Gap) or (isinstance(event, Verdict) and event.final):
            tracks = self._of(event.stream)
            return [alert for rule, track in tracks for alert in _judge(rule, track, event)]
        return []

    def _of(self, stream: str) -> list[tuple[RuleConfig, _Track]]:
        if stream not in self._tracks:
            fitting = (rule for rule in self._rules if fits(rule, stream))
            self._tracks[stream] = [(rule, _Track()) for rule in fitting]
        return self._tracks[stream]


def fits(rule: RuleConfig, stream: str) -> bool:
    """Whether a rule looks at a stream."""
    channel = stream.rpartition("/")[2] if "/" in stream else ""
    return fnmatchcase(stream, rule.stream) and fnmatchcase(channel, rule.channel)


def conflicts(rules: Sequence[RuleConfig]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with rules whose values are each right, and the key of the rule."""
    names: set[str] = set()
    for i, rule in enumerate(rules):
        path = f"rules[{i}]"
        if not rule.name.strip():
            yield f"{path}.name is empty", path
        elif rule.name in names:
            yield f"{path}.name = {rule.name!r} is the name of an earlier rule", path
        names.add(rule.name)
        if rule.command and not rule.command[0]:
            yield f"{path}.command names no program", path
        if rule.webhook and not _is_address(rule.webhook):
            yield f"{path}.webhook = {rule.webhook!r} is not an http:// or https:// address", path
        if rule.webhook_secret_env and not rule.webhook:
            yield f"{path}.webhook_secret_env has no webhook to sign for", path


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _judge(rule: RuleConfig, track: _Track, event: Verdict | Gap) -> Iterator[Alert]:
    at = _place(track.judged, _judged(rule, event))
    run = _run(track.judged, at) if at is not None else []
    if not run:
        return
    speech, end = sum(j.end - j.start for j in run), run[-1].end
    last = track.last_end
    cool = last is None or abs(to_seconds(end - last)) >= rule.cool_down_s
    if len(run) < rule.for_segments or to_seconds(speech) < rule.for_seconds or not cool:
        return
    for judged in run:
        judged.used = True
    track.last_end = end if last is None else max(last, end)
    yield _alert(rule, event.stream, run, speech)


def _judged(rule: RuleConfig, event: Verdict | Gap) -> _Judged:
    if isinstance(event, Gap):
        return _Judged(event.sequence, event.start, event.end, 0.0, None, "", counts=False)
    return _Judged(
        sequence=event.sequence,
        start=event.start,
        end=event.end,
        start_unix_s=event.start_unix_s,
        confidence=event.confidence,
        text=event.transcript.text if event.transcript else "",
        counts=event.label == rule.label and (event.confidence or 0.0) >= rule.min_confidence,
    )


def _place(judged: deque[_Judged], new: _Judged) -> int | None:
    """Put a segment at its place, or its revision; give the place, None if it is forgotten."""
    if not judged or new.sequence > judged[-1].sequence:
        judged.append(new)
        # what can neither be revised any more nor belong to the present run
        while len(judged) > REVISABLE and not (judged[0].open and judged[1].open):
            judged.popleft()
        return len(judged) - 1
    for at in range(len(judged) - 1, -1, -1):
        if judged[at].sequence == new.sequence:
            new.used = judged[at].used
            judged[at] = new
            return at
    return None


def _run(judged: deque[_Judged], at: int) -> list[_Judged]:
    """Give the segments in a row, around one of them, that count and have not yet been told."""
    entries = list(judged)
    if not entries[at].open:
        return []
    first = last = at
    while first > 0 and entries[first - 1].open:
        first -= 1
    while last + 1 < len(entries) and entries[last + 1].open:
        last += 1
    return entries[first : last + 1]


def _alert(rule: RuleConfig, stream: str, run: Sequence[_Judged], speech: int) -> Alert:
    first, last = run[0], run[-1]
    given = [judged.confidence for judged in run if judged.confidence is not None]
    return Alert(
        rule=rule.name,
        stream=stream,
        label=rule.label,
        sequence=last.sequence,
        first_sequence=first.sequence,
        start=first.start,
        end=last.end,
        start_unix_s=first.start_unix_s,
        speech=speech,
        segments=len(run),
        confidence=sum(given) / len(given) if given else None,
        text=last.text,
    )
