"""Sessions in, answers out: a profile's models and rule, driven as the monitor does."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from abhinaya.bench.quality.material import Material
from abhinaya.bench.quality.sessions import Segment, Source
from abhinaya.models import registry
from abhinaya.models.asr import Hearing, Transcriber, Transcription
from abhinaya.models.asr.guards import OFF
from abhinaya.models.base import Abstention, Ballot, Utterance, Voter
from abhinaya.models.vote.ensemble import Rule, decide
from abhinaya.stream.clock import to_seconds
from abhinaya.stream.commands.transcribe import as_received
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.node.worker import transcriber_of
from abhinaya.stream.settings.config import Config
from abhinaya.stream.settings.vote import load_combiner, rule_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was said of one segment, and what is true of it."""

    material: str
    session: int
    speaker: str
    tag: str
    truth: str
    start: int
    end: int
    text: str
    asr_cpu_s: float = 0.0
    """Of the transcriber, once a segment: 0 where the text was known from another session."""
    unguarded: str = ""
    """The text that nothing was dropped from, where that was asked for."""
    votes: Mapping[str, str] = field(default_factory=dict)
    """Label by voter; a voter that abstained is not there."""
    label: str = ""
    """The verdict, possibly `unknown`; empty where nobody was asked."""
    leading: str = ""
    without: Mapping[str, str] = field(default_factory=dict)
    """What the verdict would be without a voter, by voter."""
    confidence: float | None = None
    reference: str | None = None
    """What is said in the whole session; at its first segment alone."""
    change: int | None = None

    @property
    def seconds(self) -> float:
        """How long the segment is."""
        return to_seconds(self.end - self.start)


@dataclass(slots=True)
class _StreamState:
    """What is known of a stream between two of its segments."""

    states: dict[str, bytes] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    asr: bytes = b""

    def fork(self) -> _StreamState:
        return _StreamState(dict(self.states), list(self.texts), self.asr)


class OfflineMonitor:
    """A line-up in this process.

    Args:
        transcriber: gives the words.
        voters: by name.
        rule: of the vote.
        unguarded: the same transcriber, believing everything.

    """

    def __init__(
        self,
        transcriber: Transcriber,
        voters: Mapping[str, Voter],
        rule: Rule,
        unguarded: Transcriber,
    ) -> None:
        self._transcriber = transcriber
        self._unguarded = unguarded
        self._voters = dict(voters)
        self._rule = rule
        self._texts: dict[tuple[bytes, bytes, str], Transcription] = {}

    @classmethod
    def load(cls, config: Config) -> OfflineMonitor:
        """Load a profile's models.

        Raises:
            ConfigError: nobody transcribes, or the combiner cannot be read.
            ModelError: a model cannot be loaded.

        """
        if config.asr is None:
            raise ConfigError(f"profile {config.profile!r}", "has no transcriber", "add [asr]")
        return cls(
            transcriber_of(config.asr),
            {name: registry.load(v.model, v.options) for name, v in config.voters.items()},
            rule_of(config.vote, load_combiner(config.vote)),
            transcriber_of(
                replace(config.asr, options={**config.asr.options, "guards": dict(OFF)})
            ),
        )

    def answers(self, material: Material, source: Source) -> Iterator[Answer]:
        """Yield an answer for each segment of each session, in order."""
        vote = material.kind == "votes"
        for number, session in enumerate(material.sessions(source)):
            state = _StreamState()
            for segment in session.warm:
                self._votes(segment, self._transcribe(segment, state)[0], state)
            for place, segment in enumerate(session.segments):
                before = state.fork() if session.apart else state
                said, cpu_s = self._transcribe(segment, before)
                ballots = self._votes(segment, said, before) if vote else {}
                decision = decide(ballots, self._rule) if vote else None
                yield Answer(
                    material=material.name,
                    session=number,
                    speaker=session.speaker,
                    tag=segment.tag,
                    truth=segment.truth,
                    start=segment.start,
                    end=segment.end,
                    text=said.text,
                    asr_cpu_s=cpu_s,
                    unguarded=self._unguarded_text(segment) if material.kind == "noise" else "",
                    votes={name: ballot.label for name, ballot in ballots.items()},
                    label=decision.label if decision else "",
                    leading=decision.leading if decision else "",
                    without=self._without(ballots) if len(ballots) > 1 else {},
                    confidence=decision.confidence if decision else None,
                    reference=None if place else session.reference,
                    change=session.change,
                )

    def _transcribe(self, segment: Segment, state: _StreamState) -> tuple[Transcription, float]:
        """Transcribe a segment, once for all the sessions in which it is heard the same way."""
        if segment.words is not None:
            state.texts.append(segment.words)
            return Transcription(segment.words), 0.0
        samples = as_received(segment.samples)
        turns = self._transcriber.context_turns
        previous = " ".join(state.texts[-turns:]) if turns else ""
        digest = hashlib.blake2b(samples.tobytes(), digest_size=16).digest()
        key = (digest, state.asr if self._transcriber.stateful else b"", previous)
        cpu_s = 0.0
        if key not in self._texts:
            begun = time.process_time()
            request = Hearing(samples, state=state.asr, previous=previous)
            (self._texts[key],) = self._transcriber.transcribe([request])
            cpu_s = time.process_time() - begun
        said = self._texts[key]
        state.texts.append(said.translation or said.text)
        state.asr = said.state or state.asr
        return said, cpu_s

    def _without(self, ballots: Mapping[str, Ballot]) -> dict[str, str]:
        rest = {name: {v: b for v, b in ballots.items() if v != name} for name in ballots}
        return {name: decide(left, self._rule).label for name, left in rest.items()}

    def _unguarded_text(self, segment: Segment) -> str:
        request = Hearing(as_received(segment.samples))
        return self._unguarded.transcribe([request])[0].text

    def _votes(
        self, segment: Segment, said: Transcription, state: _StreamState
    ) -> dict[str, Ballot]:
        """Ask every voter, and keep what each wants to know with the next segment."""
        samples = as_received(segment.samples)
        ballots: dict[str, Ballot] = {}
        for name, voter in self._voters.items():
            turns = voter.card.context_turns
            utterance = Utterance(
                samples,
                state=state.states.get(name, b""),
                transcript=said.translation or said.text,
                language="en" if said.translation else said.language,
                context=tuple(state.texts[:-1][-turns:]) if turns else (),
            )
            (answer,) = voter.vote([utterance])
            if answer.state:
                state.states[name] = answer.state
            if not isinstance(answer, Abstention):
                ballots[name] = answer
        return ballots
