"""Alert rules: verdicts in, alerts out. No I/O; time is counted in samples of the stream.

A rule counts consecutive segments of one stream with its label. Another label or a gap restarts the
count. A segment is part of at most one alert of a rule, even if it is revised later. An alert is
never withdrawn.
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
"""Number of latest segments of a stream whose revisions can still raise an alert."""
LONGEST: Final = 1024
"""Maximum number of latest segments and gaps that are kept for one rule and one stream."""


@dataclass(frozen=True, slots=True)
class RuleConfig:
    """A rule: the condition of an alert, and its receivers besides the view and the files."""

    name: str = setting(doc="name of the alert")
    label: str = setting(doc="label to look for, or `unknown`", choices=(*LABELS, UNKNOWN))
    stream: str = setting("*", doc="pattern of the stream's name, with * and ?")
    channel: str = setting(
        "*", doc="pattern of the channel: the part of the stream's name after the last slash"
    )
    min_confidence: float = setting(
        0.0, doc="minimum confidence of a segment that counts", least=0, most=1
    )
    for_segments: int = setting(
        1, doc="number of consecutive segments that must have the label", least=1, most=256
    )
    for_seconds: float = setting(
        0.0, doc="minimum seconds of speech in these segments together", least=0, most=240
    )
    cool_down_s: float = setting(
        30.0,
        doc="minimum seconds of a stream between two alerts of the rule",
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
        "", doc="environment variable with the secret that signs the posts; none: unsigned"
    )
    webhook_timeout_s: float = setting(
        10.0, doc="seconds that one try of a post may take", least=0.1, most=120
    )
    webhook_attempts: int = setting(5, doc="tries of one post", least=1, most=10)


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert that a rule has raised. Positions are samples of the stream."""

    rule: str
    stream: str
    label: str
    sequence: int
    """Sequence number of the last segment."""
    first_sequence: int
    start: int
    """Start of the first segment."""
    end: int
    """End of the last segment."""
    start_unix_s: float
    """Wall-clock time of `start`, in Unix seconds."""
    speech: int
    """Total length of the segments, in samples."""
    segments: int
    confidence: float | None
    """Mean over the segments; None if the voters give no probabilities."""
    text: str
    """Transcript of the last segment; empty without one."""


@dataclass(slots=True)
class _Entry:
    """A segment or a gap, as seen by one rule."""

    sequence: int
    start: int
    end: int
    start_unix_s: float
    confidence: float | None
    text: str
    counts: bool
    """Whether the segment meets the conditions of the rule."""
    used: bool = False
    """Whether the segment was part of an alert."""

    @property
    def open(self) -> bool:
        """Whether the segment may be part of the next alert."""
        return self.counts and not self.used


@dataclass(slots=True)
class _Track:
    """State of one rule on one stream: its latest segments, and the end of the last alert."""

    entries: deque[_Entry] = field(default_factory=lambda: deque(maxlen=LONGEST))
    last_end: int | None = None


class Watch:
    """Checks the events of a run by all alert rules."""

    def __init__(self, rules: Sequence[RuleConfig]) -> None:
        self._rules = rules
        self._tracks: dict[str, list[tuple[RuleConfig, _Track]]] = {}

    def see(self, event: Event) -> list[Alert]:
        """Return the alerts that an event raises, in the order of the rules.

        Provisional verdicts are ignored, and those on streams that may not be judged.
        """
        if isinstance(event, StreamEnded):
            self._tracks.pop(event.stream, None)
        if isinstance(event, Gap) or (isinstance(event, Verdict) and event.final and event.judged):
            tracks = self._of(event.stream)
            return [alert for rule, track in tracks for alert in _check(rule, track, event)]
        return []

    def _of(self, stream: str) -> list[tuple[RuleConfig, _Track]]:
        if stream not in self._tracks:
            fitting = (rule for rule in self._rules if fits(rule, stream))
            self._tracks[stream] = [(rule, _Track()) for rule in fitting]
        return self._tracks[stream]


def fits(rule: RuleConfig, stream: str) -> bool:
    """Return whether a rule applies to a stream."""
    channel = stream.rpartition("/")[2] if "/" in stream else ""
    return fnmatchcase(stream, rule.stream) and fnmatchcase(channel, rule.channel)


def conflicts(rules: Sequence[RuleConfig]) -> Iterator[tuple[str, str]]:
    """Yield (message, key of the rule) for each conflict within or between the rules."""
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
            yield f"{path}.webhook is not an http:// or https:// address", path
        if rule.webhook_secret_env and not rule.webhook:
            yield f"{path}.webhook_secret_env has no webhook to sign for", path


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _check(rule: RuleConfig, track: _Track, event: Verdict | Gap) -> Iterator[Alert]:
    at = _insert(track.entries, _entry(rule, event))
    run = _run(track.entries, at) if at is not None else []
    if not run:
        return
    speech, end = sum(entry.end - entry.start for entry in run), run[-1].end
    last = track.last_end
    cool = last is None or abs(to_seconds(end - last)) >= rule.cool_down_s
    if len(run) < rule.for_segments or to_seconds(speech) < rule.for_seconds or not cool:
        return
    for entry in run:
        entry.used = True
    track.last_end = end if last is None else max(last, end)
    yield _alert(rule, event.stream, run, speech)


def _entry(rule: RuleConfig, event: Verdict | Gap) -> _Entry:
    if isinstance(event, Gap):
        return _Entry(event.sequence, event.start, event.end, 0.0, None, "", counts=False)
    return _Entry(
        sequence=event.sequence,
        start=event.start,
        end=event.end,
        start_unix_s=event.start_unix_s,
        confidence=event.confidence,
        text=event.transcript.text if event.transcript else "",
        counts=event.label == rule.label and (event.confidence or 0.0) >= rule.min_confidence,
    )


def _insert(entries: deque[_Entry], new: _Entry) -> int | None:
    """Insert a segment, or replace it by its revision. Return its index; None if it is too old."""
    if not entries or new.sequence > entries[-1].sequence:
        entries.append(new)
        # remove entries that are too old for a revision and not part of a run
        while len(entries) > REVISABLE and not (entries[0].open and entries[1].open):
            entries.popleft()
        return len(entries) - 1
    for at in range(len(entries) - 1, -1, -1):
        if entries[at].sequence == new.sequence:
            new.used = entries[at].used
            entries[at] = new
            return at
    return None


def _run(entries: deque[_Entry], at: int) -> list[_Entry]:
    """Return the run of consecutive open segments that contains index `at`."""
    kept = list(entries)
    if not kept[at].open:
        return []
    first = last = at
    while first > 0 and kept[first - 1].open:
        first -= 1
    while last + 1 < len(kept) and kept[last + 1].open:
        last += 1
    return kept[first : last + 1]


def _alert(rule: RuleConfig, stream: str, run: Sequence[_Entry], speech: int) -> Alert:
    first, last = run[0], run[-1]
    given = [entry.confidence for entry in run if entry.confidence is not None]
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
