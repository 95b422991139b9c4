"""The law: no event of a stream that may not be judged has a label, a vote or a number about it."""

from __future__ import annotations

from typing import Any

import fakes
import numpy as np
import pytest
from desk import FRONT, SERVICES, Desk
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.front.numbering import Speech
from abhinaya.stream.hub.broker import Broker
from abhinaya.stream.settings.compliance import ComplianceConfig, check_retention, lawful, remark
from abhinaya.stream.settings.config import VadConfig
from abhinaya.stream.settings.profile import load
from abhinaya.stream.settings.rules import RuleConfig, Watch
from abhinaya.stream.settings.vote import VoteConfig
from abhinaya.stream.sinks.events import to_dict
from abhinaya.stream.sources.array import open_arrays
from abhinaya.stream.wire import messages as m

EU = ComplianceConfig(mode="eu")
DROP = ComplianceConfig(mode="eu", others="drop")
AGENT, CUSTOMER = "call/agent", "call/customer"
RULES = tuple(RuleConfig(name=label, label=label, cool_down_s=0) for label in (*LABELS, UNKNOWN))
ABOUT_LABELS = {"probabilities", "attributes"}

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.sampled_from((AGENT, CUSTOMER))),
        st.tuples(st.just("part"), st.sampled_from((AGENT, CUSTOMER))),
        st.tuples(st.just("work"), st.sampled_from(LABELS)),
        st.tuples(st.just("unasked"), st.sampled_from((*SERVICES[1:], "refiner"))),
        st.tuples(st.just("retry"), st.just("")),
        st.tuples(st.just("die"), st.sampled_from(SERVICES)),
        st.tuples(st.just("wait"), st.sampled_from((0.1, 2.5))),
        st.tuples(st.just("hub"), st.just("")),
    ),
    max_size=25,
)


class Call(Desk):
    """Two channels of a call at a hub in compliance mode, whose front says that both are judged."""

    def __init__(self, live: bool, compliance: ComplianceConfig) -> None:
        self.changes: dict[str, Any] = {
            "compliance": compliance,
            "refiner": fakes.config().asr,
            "vote": VoteConfig(refine_margin=0.9),
        }
        super().__init__(**self.changes)
        self.live, self.heard = live, list[m.Task]()
        self.next, self.parts = {AGENT: 0, CUSTOMER: 0}, 0
        self.kept: list[m.Event] = []
        self.begin()

    def begin(self) -> None:
        self.nodes = [("-".join(names.split()), names) for names in ("asr S1", "T2 ST1", "refiner")]
        for node, names in self.nodes:
            self.say(
                node.encode(), fakes.ready(names, node, credits=50, attributes=True, trial_ms=1.0)
            )
        infos = tuple(fakes.info(s, self.live, of_input="call") for s in self.next)
        hello = fakes.hello(*infos)
        self.say(FRONT, replace(hello, first_sequences=tuple(self.next.values())))

    def step(self, what: str, which: str) -> None:
        if what == "say":
            self.seen()
            if self.next[which] - self.stream(which).acknowledged < 3:
                self.say(FRONT, fakes.segment(self.next[which], which))
                self.next[which] += 1
        elif what == "part" and self.live:
            self.parts += 1
            self.say(FRONT, fakes.partial(self.next[which], self.parts, which))
        elif what in ("work", "retry"):
            self.work(which or LABELS[0], retry=what == "retry")
        elif what == "unasked":
            self.unasked(which)
        elif what == "die":
            self.die(which)
        elif what == "wait":
            self.tick(float(which))
        elif what == "hub":
            self.restart()

    def unasked(self, which: str) -> None:
        for sequence in range(self.next[AGENT] + 1):
            for node, names in self.nodes:
                if which in names.split():
                    vote = fakes.rated(fakes.vote(sequence, which, stream=AGENT), 4.0, 4.0, 4.0)
                    self.say(node.encode(), vote, replace(vote, part=self.parts))

    def die(self, which: str) -> None:
        for node, names in self.nodes:
            if which in names.split():
                self.sink(m.Died(name=node, reason="was killed"))
                self.say(node.encode(), fakes.ready(names, node, credits=50, attributes=True))

    def restart(self) -> None:
        self.kept += [n.event for n in self.notices if not isinstance(n.event, m.Activity)]
        self.notices.clear()
        self.broker = Broker(fakes.config(**self.changes), "hub-2")
        self.sink(m.Subscribe(sink="recorder", confirm=True, run=fakes.RUN))
        self.begin()

    def work(self, label: str, retry: bool) -> None:
        tasks = [(peer, t) for peer, t in self.told if isinstance(t, m.Task)]
        self.told.clear()
        for peer, task in tasks:
            self.heard.append(task)
            for service in task.services:
                said = fakes.answer(task, service, label)
                if isinstance(said, m.Vote):
                    said = fakes.rated(said, 4.0, 3.0, 2.0)
                self.say(peer, fakes.failed(task, service, True) if retry else said)

    def all_events(self) -> list[m.Event]:
        return self.kept + [n.event for n in self.notices if not isinstance(n.event, m.Activity)]


def keys(value: Any) -> set[str]:
    """Every key of a JSON value at any depth."""
    if isinstance(value, dict):
        return set(value) | {k for inner in value.values() for k in keys(inner)}
    return {k for inner in value for k in keys(inner)} if isinstance(value, list) else set()


@fakes.patient
@given(st.booleans(), st.sampled_from((EU, DROP)), STEPS)
def test_nothing_says_how_an_agent_feels(
    live: bool, compliance: ComplianceConfig, steps: list[tuple[str, Any]]
) -> None:
    call = Call(live, compliance)
    for what, which in steps:
        call.step(what, which)
    for _ in range(2):  # what is open, then one more of each
        for _ in range(6):
            call.step("work", "angry")
        call.tick(61.0)
        call.begin()
        call.step("say", CUSTOMER)
        call.step("say", AGENT)
    for _ in range(6):
        call.step("work", "angry")
    events, watch = call.all_events(), Watch(RULES)
    allowed = {"asr"} if compliance.others == "transcribe" else set()
    assert {s for t in call.heard if AGENT in t.stream for s in t.services} <= allowed
    started = {e.info.stream: e.info for e in events if isinstance(e, m.StreamStarted)}
    assert {name: info.judged for name, info in started.items()} == {AGENT: False, CUSTOMER: True}
    assert all(info.notice == compliance.notice for info in started.values())
    alerts = [alert for event in events for alert in watch.see(event)]
    assert AGENT not in {alert.stream for alert in alerts}
    mine = [e for e in events if isinstance(e, m.Verdict) and e.stream == AGENT]
    assert any(v.final for v in mine)
    for verdict in mine:
        assert (verdict.label, verdict.leading, verdict.reason) == (UNKNOWN, "", m.NOT_JUDGED)
        assert (verdict.votes, verdict.missing, verdict.refinement) == ((), (), None)
        assert (verdict.attributes, verdict.confidence) == (None, None)
        assert (verdict.agreement, verdict.margin, verdict.revision) == (0.0, 0.0, 0)
        assert not keys(to_dict(verdict, 0.0)) & ABOUT_LABELS
        assert not verdict.text or allowed
    theirs = [e for e in events if isinstance(e, m.Verdict) and e.stream == CUSTOMER]
    assert any(v.votes for v in theirs), "the other channel is judged"
    assert all(v.judged for v in theirs)


def test_the_words_of_an_agent_come_at_once_and_without_a_transcriber_nothing_waits() -> None:
    call = Call(live=False, compliance=EU)
    call.step("say", AGENT)
    call.step("work", "angry")
    assert [v.text for v in call.events(m.Verdict)] == ["words of 0"]
    dropped = Call(live=False, compliance=DROP)
    dropped.step("say", AGENT)
    assert [v.reason for v in dropped.events(m.Verdict)] == [m.NOT_JUDGED]
    assert [s.info.heard for s in dropped.events(m.StreamStarted)] == [False, True]


@pytest.mark.parametrize(
    ("stream", "consent", "config", "judged", "why"),
    [
        (CUSTOMER, "", EU, True, ""),
        ("call/Caller", "yes", EU, True, ""),
        (CUSTOMER, "No", EU, False, "its consent is 'No'"),
        (AGENT, "", EU, False, "none of its channels (agent) is among"),
        ("call", "", EU, False, "--channels split --channel-names"),
        ("customer", "", EU, False, "--channels split --channel-names"),
        (AGENT, "", ComplianceConfig(), True, ""),
        ("call/2", "", ComplianceConfig(mode="eu", judged=("2",)), True, ""),
    ],
)
def test_only_named_channels_are_judged(
    stream: str, consent: str, config: ComplianceConfig, judged: bool, why: str
) -> None:
    of_input = stream.partition("/")[0]
    info = lawful(config, replace(fakes.info(stream, of_input=of_input), consent=consent))
    assert info.judged is judged
    assert why in remark(config, [info])
    assert bool(why) == bool(remark(config, [info]))
    assert not lawful(config, replace(info, judged=False)).judged, "never more than it had"


def test_a_dropped_channel_is_silence_before_speech_is_looked_for() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (16_000, 2)).astype(np.float32)
    source = open_arrays([noise], 16_000, "call", "split", print)
    speech = Speech(VadConfig(), source, [AGENT, CUSTOMER], (), heard=(False, True))
    chunk = speech.next_chunk()
    assert chunk is not None
    assert not chunk.samples[:, 0].any()
    assert chunk.samples[:, 1].any()


def test_what_the_mode_does_not_allow_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"compliance\.retention_days"):
        check_retention(EU)
    check_retention(ComplianceConfig())
    with pytest.raises(ConfigError, match="logs_days = 0 keeps logs"):
        load("embedded", {"compliance.mode": "eu", "supervise.logs_days": 0})
