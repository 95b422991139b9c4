"""Words of several people who speak at once, from one node: a simulation with a clock of its own.

The front's part of it is its schedule (a part after .7 s, then every .7 s, then the segment); the
node works on one task after the other, finals first, as its batcher does.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import fakes
import pytest
from desk import Desk
from msgspec.structs import replace

from abhinaya.stream.settings.config import VadConfig
from abhinaya.stream.wire.messages import Message, Task

PART_S, PAUSE_S, SILENCE_S = VadConfig().provisional_every_s, 0.6, VadConfig().min_silence_s
SERVICES = ("asr", "S1", "T2", "ST1")


@dataclass
class Ears:
    """One node that gives everything, and needs so many seconds for it."""

    part_s: float
    final_s: float
    tasks: list[Task] = field(default_factory=list)
    parts: list[Task] = field(default_factory=list)
    busy: Task | None = None


@dataclass
class Simulation:
    """So many streams of speech, and when what was said became known."""

    streams: int
    ears: Ears
    speech_s: float = 3.0
    now: float = 0.0
    events: list[tuple[float, int, str, object]] = field(default_factory=list)
    first_words: list[float] = field(default_factory=list)
    """Seconds from the beginning of speech, by segment."""
    finals: list[float] = field(default_factory=list)
    """Seconds from the end of speech, by segment."""
    parts_told: int = 0

    def __post_init__(self) -> None:
        self.hub = Desk()
        tried = fakes.ready("asr S1 T2 ST1", "ears-0", credits=8, trial_ms=20.0)
        self.hub.say(b"ears-0", tried)
        names = [f"s{i}" for i in range(self.streams)]
        infos = [fakes.info(name, live=True) for name in names]
        self.hub.say(b"front-0", fakes.hello(*infos))
        self.count = 0
        self.begun: dict[tuple[str, int], float] = {}
        for i, name in enumerate(names):
            self.at(0.31 * i, "speak", (name, 0))

    def at(self, when: float, what: str, about: object) -> None:
        self.count += 1
        heapq.heappush(self.events, (when, self.count, what, about))

    def run(self, until_s: float) -> None:
        while self.events and self.events[0][0] < until_s:
            self.now, _, what, about = heapq.heappop(self.events)
            self.hub.now = 100.0 + self.now
            getattr(self, what)(about)
            self.look()

    def speak(self, about: tuple[str, int]) -> None:
        name, sequence = about
        self.begun[about] = self.now
        number, when = 1, PART_S
        while when < self.speech_s + SILENCE_S:
            self.at(self.now + when, "part", (name, sequence, number))
            number, when = number + 1, when + PART_S
        self.at(self.now + self.speech_s + SILENCE_S, "final", about)
        self.at(self.now + self.speech_s + SILENCE_S + PAUSE_S, "speak", (name, sequence + 1))

    def part(self, about: tuple[str, int, int]) -> None:
        name, sequence, number = about
        self.say(fakes.partial(sequence, number, name))

    def final(self, about: tuple[str, int]) -> None:
        self.say(fakes.segment(about[1], about[0]))

    def say(self, message: Message) -> None:
        self.hub.say(b"front-0", message)

    def done(self, _: object) -> None:
        task, self.ears.busy = self.ears.busy, None
        assert task is not None
        run_ms = 1000 * (self.ears.final_s if task.final else self.ears.part_s) / len(SERVICES)
        for service in task.services:
            answer = fakes.answer(task, service)
            self.hub.say(b"ears-0", replace(answer, stream=task.stream, run_ms=run_ms))

    def look(self) -> None:
        for peer, message in self.hub.told:
            if peer == b"ears-0" and isinstance(message, Task):
                (self.ears.tasks if message.final else self.ears.parts).append(message)
        self.hub.told.clear()
        for notice in self.hub.notices:
            event = notice.event
            if hasattr(event, "votes"):
                self.told((event.stream, event.sequence), event.part)
        self.hub.seen() if self.hub.notices else None
        self.hub.notices.clear()
        waiting = self.ears.tasks or self.ears.parts
        if self.ears.busy is None and waiting:
            self.ears.busy = waiting.pop(0)
            took = self.ears.final_s if self.ears.busy.final else self.ears.part_s
            self.at(self.now + took, "done", None)

    def told(self, key: tuple[str, int], part: int) -> None:
        if key in self.begun:
            self.first_words.append(self.now - self.begun.pop(key))
        self.parts_told += part > 0
        if not part:
            spoken_at = self.spoken(key)
            self.finals.append(self.now - spoken_at)

    def spoken(self, key: tuple[str, int]) -> float:
        index = int(key[0][1:])
        period = self.speech_s + SILENCE_S + PAUSE_S
        return 0.31 * index + key[1] * period + self.speech_s


@pytest.mark.parametrize("part_s", [0.06, 0.1, 0.15])
def test_four_who_speak_at_once_have_a_first_word_within_two_seconds(part_s: float) -> None:
    four = Simulation(4, Ears(part_s, 2 * part_s))
    four.run(60.0)
    assert len(four.first_words) > 50
    assert max(four.first_words) < 2.0
    assert sorted(four.first_words)[len(four.first_words) // 2] < 1.1


@pytest.mark.parametrize("part_s", [0.06, 0.15])
def test_one_alone_has_the_first_word_within_a_second(part_s: float) -> None:
    one = Simulation(1, Ears(part_s, 2 * part_s))
    one.run(60.0)
    assert max(one.first_words) < 1.0


def test_under_load_parts_come_more_seldom_and_no_final_waits_for_more_than_one() -> None:
    light, heavy = Simulation(4, Ears(0.06, 0.2)), Simulation(4, Ears(0.35, 0.2))
    light.run(60.0)
    heavy.run(60.0)
    assert heavy.parts_told < 0.7 * light.parts_told
    alone = SILENCE_S + 4 * 0.2  # all four have ended at once
    assert max(heavy.finals) < alone + 0.35


def test_slow_segments_do_not_keep_a_service_that_is_fast_with_parts_from_them() -> None:
    slow = Simulation(2, Ears(0.1, 2.4), speech_s=8.0)  # .6 s a service, over the limit
    slow.run(60.0)
    assert slow.parts_told > 20
