"""Runs a profile's models and vote rule on sessions, as the monitor does."""

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
from abhinaya.models.base import Abstention, Ballot, Card, Utterance, Voter
from abhinaya.models.vote.ensemble import Rule, decide, defers
from abhinaya.stream.clock import to_seconds
from abhinaya.stream.commands.transcribe import as_received
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.node.worker import transcriber_of
from abhinaya.stream.settings.config import Config
from abhinaya.stream.settings.vote import load_combiner, rule_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Result and truth of one segment."""

    material: str
    session: int
    speaker: str
    tag: str
    truth: str
    start: int
    end: int
    text: str
    asr_cpu_s: float = 0.0
    """Processor seconds of the transcriber; 0 if the text came from the cache."""
    unguarded: str = ""
    """Text without guards, for materials of the kind `noise`."""
    ballots: Mapping[str, Ballot] = field(default_factory=dict)
    """Vote by voter, without abstentions."""
    cpu_s: Mapping[str, float] = field(default_factory=dict)
    """Processor seconds by voter that was asked."""
    label: str = ""
    """Label of the verdict, possibly `unknown`; empty if there was no vote."""
    leading: str = ""
    without: Mapping[str, str] = field(default_factory=dict)
    """By voter: label of the verdict without this voter."""
    confidence: float | None = None
    reference: str | None = None
    """Words of the whole session, in its first answer; None in others."""
    change: int | None = None

    @property
    def seconds(self) -> float:
        """Length of the segment."""
        return to_seconds(self.end - self.start)

    @property
    def votes(self) -> dict[str, str]:
        """Label by voter, without abstentions."""
        return {name: ballot.label for name, ballot in self.ballots.items()}


@dataclass(slots=True)
class _StreamState:
    """State of a stream between two segments."""

    states: dict[str, bytes] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    asr: bytes = b""

    def fork(self) -> _StreamState:
        return _StreamState(dict(self.states), list(self.texts), self.asr)


class OfflineMonitor:
    """The monitor without streaming: transcriber, voters and vote rule in this process.

    `unguarded` is the same transcriber without guards.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        voters: Mapping[str, Voter],
        rule: Rule,
        unguarded: Transcriber,
    ) -> None:
        self._transcriber, self._unguarded = transcriber, unguarded
        self._voters, self._rule = dict(voters), rule
        self._texts: dict[tuple[bytes, bytes, str], Transcription] = {}

    @classmethod
    def load(cls, config: Config) -> OfflineMonitor:
        """Return the monitor with a profile's models.

        Raises ConfigError: the profile has no transcriber, or the combiner cannot be read;
        ModelError: a model cannot be loaded.
        """
        if config.asr is None:
            raise ConfigError(f"profile {config.profile!r}", "has no transcriber", "add [asr]")
        voters = {name: registry.load(v.model, v.options) for name, v in config.voters.items()}
        rule = rule_of(config.vote, load_combiner(config.vote))
        open_asr = replace(config.asr, options={**config.asr.options, "guards": dict(OFF)})
        return cls(transcriber_of(config.asr), voters, rule, transcriber_of(open_asr))

    @property
    def cards(self) -> dict[str, Card]:
        """Cards of the voters."""
        return {name: voter.card for name, voter in self._voters.items()}

    def answers(self, material: Material, source: Source) -> Iterator[Answer]:
        """Yield the answer to each segment of each session, in order."""
        vote = material.kind == "votes"
        for number, session in enumerate(material.sessions(source)):
            state = _StreamState()
            for segment in session.warm:
                self._votes(segment, self._transcribe(segment, state)[0], state, {})
            for place, segment in enumerate(session.segments):
                before = state.fork() if session.apart else state
                transcription, cpu_s = self._transcribe(segment, before)
                voter_s: dict[str, float] = {}
                ballots = self._votes(segment, transcription, before, voter_s) if vote else {}
                decision = decide(ballots, self._rule) if vote else None
                ballots = {name: ballot for name, ballot in ballots.items() if ballot.label}
                yield Answer(
                    material=material.name,
                    session=number,
                    speaker=session.speaker,
                    tag=segment.tag,
                    truth=segment.truth,
                    start=segment.start,
                    end=segment.end,
                    text=transcription.text,
                    asr_cpu_s=cpu_s,
                    unguarded=self._unguarded_text(segment) if material.kind == "noise" else "",
                    ballots=ballots,
                    cpu_s=voter_s,
                    label=decision.label if decision else "",
                    leading=decision.leading if decision else "",
                    without=self._without(ballots) if len(ballots) > 1 else {},
                    confidence=decision.confidence if decision else None,
                    reference=None if place else session.reference,
                    change=session.change,
                )

    def _transcribe(self, segment: Segment, state: _StreamState) -> tuple[Transcription, float]:
        """Return the transcription and its processor seconds; equal requests are cached."""
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
        transcription = self._texts[key]
        state.texts.append(transcription.translation or transcription.text)
        state.asr = transcription.state or state.asr
        return transcription, cpu_s

    def _without(self, ballots: Mapping[str, Ballot]) -> dict[str, str]:
        rest = {name: {v: b for v, b in ballots.items() if v != name} for name in ballots}
        return {name: decide(left, self._rule).label for name, left in rest.items()}

    def _unguarded_text(self, segment: Segment) -> str:
        request = Hearing(as_received(segment.samples))
        return self._unguarded.transcribe([request])[0].text

    def _votes(
        self,
        segment: Segment,
        transcription: Transcription,
        state: _StreamState,
        cpu_s: dict[str, float],
    ) -> dict[str, Ballot]:
        """Return the votes by voter, without abstentions; update the states of the voters.

        Voters of the cascade vote only if the rule asks them. `cpu_s` gets the time of each voter.
        """
        samples = as_received(segment.samples)
        ballots: dict[str, Ballot] = {}
        cascade = self._rule.cascade
        for name in sorted(self._voters, key=lambda name: name in cascade):
            if name in cascade and not defers(ballots, self._rule):
                break
            voter = self._voters[name]
            turns = voter.card.context_turns
            utterance = Utterance(
                samples,
                state=state.states.get(name, b""),
                transcript=transcription.translation or transcription.text,
                language="en" if transcription.translation else transcription.language,
                context=tuple(state.texts[:-1][-turns:]) if turns else (),
            )
            begun = time.process_time()
            (answer,) = voter.vote([utterance])
            cpu_s[name] = time.process_time() - begun
            if answer.state:
                state.states[name] = answer.state
            if not isinstance(answer, Abstention):
                ballots[name] = answer
        return ballots
