"""Words of live streams: what is timed and counted, on events made here."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

import fakes
import numpy as np
import pytest

from abhinaya.bench import monitored
from abhinaya.bench.asr import Utterance, errors_on_whole, make_stream
from abhinaya.bench.monitored import Usage, pss_mib, resident_mib
from abhinaya.bench.word_times import Placed, WordTimes
from abhinaya.models.asr import Transcription
from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.wire.messages import StreamInfo, StreamStarted, Transcript, Word

ZERO = 1_000_000.0


def utterance(name: str, seconds: float) -> Utterance:
    return Utterance(name, np.full(int(seconds * SAMPLE_RATE), 0.5, np.float32), f"the {name}")


def transcript(text: str, words: tuple[tuple[str, float, float], ...] = (), part: int = 0):
    return Transcript(
        stream="a",
        sequence=0,
        text=text,
        part=part,
        words=tuple(Word(text=w, start=at(s), end=at(e)) for w, s, e in words),
        model="fake",
        queue_ms=0.0,
        run_ms=0.0,
        batch_size=1,
    )


def at(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)


def p50_p95(values: Mapping[str, float]) -> tuple[float, float]:
    """Of two values a and b: (a + b) / 2, and a + .95 (b - a)."""
    return values["p50"], values["p95"]


def started() -> StreamStarted:
    return StreamStarted(
        info=StreamInfo(stream="a", front="front-0", source="a", live=True, start_unix_s=ZERO)
    )


def heard(times: WordTimes, start: float, end: float, came: float, text, part: int = 0) -> None:
    event = fakes.verdict(
        0,
        stream="a",
        start=at(start),
        end=at(end),
        start_unix_s=ZERO + start,
        captured_unix_s=ZERO + end,
        transcript=text,
        part=part,
    )
    (times.provisional if part else times.event)(event, ZERO + came)


@pytest.mark.parametrize("seed", [0, 1])
def test_streams_are_full_of_speech_and_known(seed: int) -> None:
    choice = [utterance("long", 8.0), utterance("short", 4.0), utterance("middle", 6.0)]
    samples, placed = make_stream(choice, 60.0, seed)
    assert len(samples) <= 60 * SAMPLE_RATE
    spoken = sum(one.end - one.start for one in placed)
    assert spoken / len(samples) == pytest.approx(0.8, abs=0.03)
    inside = np.zeros(len(samples), bool)
    for one in placed:
        inside[one.start : one.end] = True
        assert one.text == f"the {one.name}"
    assert np.all((samples > 0.1) == inside)
    assert {one.name for one in placed[:3]} == {"long", "short", "middle"}


def test_another_seed_is_another_order_and_the_same_seed_the_same() -> None:
    choice = [utterance(str(n), 2.0 + n) for n in range(6)]
    first, again, other = (make_stream(choice, 60.0, seed)[1] for seed in (0, 0, 1))
    assert first == again != other


def test_words_are_timed_from_the_utterance_that_they_are_of() -> None:
    one = Placed(at(1.0), at(5.0), "x", "good morning to you")
    two = Placed(at(6.0), at(8.0), "y", "and goodbye")
    times = WordTimes({"a": [one, two]})
    times.event(started(), ZERO)
    heard(times, 0.9, 1.9, 1.8, transcript("", part=1), part=1)  # no word yet
    heard(times, 0.9, 2.4, 2.5, transcript("good", part=2), part=2)
    heard(times, 0.9, 5.1, 5.75, transcript("good morning to you"))
    heard(times, 5.9, 8.1, 9.0, transcript("and good buy"))
    result = times.result({})
    assert p50_p95(result["first_s"]) == pytest.approx((2.25, 2.925))
    assert p50_p95(result["final_s"]) == pytest.approx((0.875, 0.9875))
    assert (result["missing"], result["words"], result["errors"]) == (0, 6, 2)


def test_a_segment_that_holds_two_utterances_gives_each_its_own_first_word() -> None:
    one = Placed(at(1.0), at(3.0), "x", "yes")
    two = Placed(at(3.5), at(5.0), "y", "no")
    times = WordTimes({"a": [one, two]})
    times.event(started(), ZERO)
    early = transcript("yes", (("yes", 1.0, 2.0),), part=1)
    heard(times, 0.9, 4.0, 4.1, early, part=1)
    both = transcript("yes no", (("yes", 1.0, 2.0), ("no", 3.6, 4.8)))
    heard(times, 0.9, 5.1, 6.0, both)
    result = times.result({})
    assert p50_p95(result["first_s"]) == pytest.approx((2.8, 3.07))
    assert p50_p95(result["final_s"]) == pytest.approx((2.0, 2.9))


def test_an_utterance_of_two_segments_is_final_with_the_second() -> None:
    times = WordTimes({"a": [Placed(at(1.0), at(9.0), "x", "one two")]})
    times.event(started(), ZERO)
    heard(times, 0.9, 4.0, 4.6, transcript("one"))
    heard(times, 4.5, 9.1, 9.8, transcript("two"))
    assert p50_p95(times.result({})["final_s"]) == pytest.approx((0.8, 0.8))


def test_what_never_came_is_missing_and_its_words_are_errors() -> None:
    times = WordTimes({"a": [Placed(at(1.0), at(3.0), "x", "yes please")]})
    times.event(started(), ZERO)
    times.event(fakes.gap(0, stream="a"), ZERO + 4)
    result = times.result({})
    assert (result["missing"], result["errors"], result["utterances"]) == (1, 2, 1)
    assert math.isnan(result["final_s"]["p50"])
    assert times.result({"x": 1, "z": 5})["whole_errors"] == 1


def test_what_was_used_counts_from_the_first_stream_on(monkeypatch: pytest.MonkeyPatch) -> None:
    used = {1: 5.0, 77: 3.0}
    memory = {1: 40.0, 77: 100.0}
    machine = [100.0, 50.0]
    monkeypatch.setattr(monitored, "cpu_seconds", lambda pid: used[pid])
    monkeypatch.setattr(monitored, "pss_mib", lambda pid: memory[pid])
    monkeypatch.setattr(monitored, "resident_mib", lambda pid: 2 * memory[pid])
    monkeypatch.setattr(monitored, "machine_seconds", lambda: tuple(machine))
    usage, named = Usage(0.0), [("main", 1), ("S1-0", 77)]
    usage.sample(named, 0.0)
    used[77] = 4.0
    usage.sample(named, 1.0)
    usage.event(started(), ZERO)
    used[77], memory[77] = 4.5, 150.0
    usage.sample(named, 2.0)
    used[77], memory[77] = 0.0, 10.0  # it has died: what it used stays used
    used[1] = 6.5
    machine[:] = [112.0, 58.0]
    usage.sample(named, 3.0)
    assert usage.cpu_s == pytest.approx(0.5 + 1.5)
    assert (usage.pss_mib, usage.resident_mib) == (190.0, 380.0)
    assert usage.peaks() == {"main": 80.0, "S1-0": 300.0}
    assert usage.others == pytest.approx((12 - 2) / 20), "12 of 20 s were used, 2 of them here"


def test_proportional_memory_is_at_most_resident_memory() -> None:
    assert 0 < pss_mib(os.getpid()) <= resident_mib(os.getpid()) + 1
    assert pss_mib(2**22 + 1) == 0.0


def test_the_same_weights_on_whole_utterances() -> None:
    class Parrot:
        def transcribe(self, batch):
            return [Transcription("the long") for _ in batch]

    choice = [utterance("long", 1.0), utterance("short", 1.0)]
    assert errors_on_whole(Parrot(), choice) == {"long": 0, "short": 1}
