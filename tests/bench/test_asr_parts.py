"""What parts bring, and what guards drop, is counted right."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from abhinaya.bench import asr, asr_clips, asr_noise, asr_parts
from abhinaya.stream.asr import Hearing, Transcription
from abhinaya.stream.errors import SourceError

SHARED = Path(__file__).parents[3] / "shared" / "data"


class Slow:
    """Takes as long as it is told, by a clock of its own, and says what it is told."""

    model, version, licence, noncommercial, context_turns = "slow", "1", "MIT", False, 0

    def __init__(self, incremental=True, takes=(), says=()):
        self.incremental = incremental
        self.now = 0.0
        self.takes, self.says = iter(takes), iter(says)
        self.heard = []

    def transcribe(self, batch):
        self.heard += batch
        self.now += next(self.takes, 0.0)
        return [next(self.says, Transcription("words", stable=1)) for _ in batch]


def going_on(samples=16_000):
    return Hearing(np.zeros(samples, np.float32), "s", 0, final=False)


def over(samples=160_000):
    return Hearing(np.zeros(samples, np.float32), "s", 0)


def desk(slow):
    run = asr_parts.Run()
    return asr_parts.Desk(slow, lambda: slow.now, run), run


def test_a_final_pass_waits_for_the_part_before_it():
    slow = Slow(takes=(0.5, 0.25))
    at, run = desk(slow)
    at.part(9.0, going_on())
    assert at.final(9.2, 9.0, over()) == "words"
    (done,) = run.finished
    assert (done.seconds, done.final_s) == (10.0, 0.25)
    assert done.delay_s == pytest.approx(0.75)  # the part is heard until 9.5
    assert run.busy_s == 0.75
    figures = run.figures()
    assert (figures["final_p50_ms"], figures["delay_p95_ms"]) == (250.0, 750.0)


def test_an_idle_transcriber_begins_when_the_segment_is_known():
    at, run = desk(Slow(takes=(0.125, 0.125)))
    at.part(1.0, going_on())
    at.final(9.5, 9.0, over())
    assert run.finished[0].delay_s == pytest.approx(0.625)


@pytest.mark.parametrize(("incremental", "parts"), [(True, 2), (False, 1)])
def test_only_who_searches_what_is_new_hears_parts_while_busy(incremental, parts):
    slow = Slow(incremental, takes=(2.0,))
    at, _ = desk(slow)
    at.part(1.0, going_on())
    at.part(2.0, going_on())
    assert len(slow.heard) == parts


def test_words_that_were_stable_and_changed_are_counted():
    said = [Transcription("so it goes on", stable=3), Transcription("so he goes on")]
    at, run = desk(Slow(says=said))
    at.part(1.0, going_on())
    at.final(2.0, 1.5, over())
    assert (run.settled, run.withdrawn) == (3, 1)
    at.final(3.0, 2.5, over())
    assert run.settled == 3, "the part belongs to the segment before"


@pytest.mark.parametrize(
    ("settled", "final", "count"),
    [
        ("", "", 0),
        ("so it", "So, it goes", 0),
        ("so it", "so he goes", 1),
        ("so it goes", "it goes on", 1),
        ("so it", "", 2),
    ],
)
def test_changes_of_a_beginning(settled, final, count):
    assert asr_parts.changed(settled.split(), final.split()) == count


def test_without_long_segments_there_is_no_delay_to_tell():
    figures = asr_parts.Run().figures()
    assert math.isnan(figures["delay_p50_ms"])
    assert figures["long_segments"] == 0


@pytest.fixture
def clips():
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not on this machine")
    return asr_clips.limited(asr_clips.clips_in(SHARED / "e2e"), 1)


def test_parts_of_real_speech_grow_into_their_segment(clips):
    slow = Slow()
    run = asr_parts.measure(slow, clips, parts=True, clock=lambda: slow.now)
    assert len(run.finished) == sum(heard.final for heard in slow.heard) >= len(clips)
    assert any(not heard.final for heard in slow.heard)
    for before, after in itertools.pairwise(slow.heard):
        if before.final:
            continue
        assert (before.stream, before.sequence) == (after.stream, after.sequence)
        common = min(len(before.samples), len(after.samples))
        assert np.array_equal(before.samples[:common], after.samples[:common])
    whole = Slow()
    asr_parts.measure(whole, clips, parts=False, clock=lambda: whole.now)
    finals = [heard for heard in slow.heard if heard.final]
    assert [len(h.samples) for h in whole.heard] == [len(h.samples) for h in finals]


class Babbler:
    """Says something of everything; or nothing of what is quiet."""

    def __init__(self, guarded):
        self.guarded = guarded

    def transcribe(self, batch):
        loud = [np.abs(heard.samples).max(initial=0) > 0.2 for heard in batch]
        return [Transcription("la" if is_loud or not self.guarded else "") for is_loud in loud]


def test_what_guards_drop_is_counted(tmp_path):
    import wave

    (tmp_path / "noise").mkdir()
    for name, level in (("quiet", 3_000), ("loud", 20_000), ("louder", 30_000)):
        with wave.open(str(tmp_path / "noise" / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            noise = np.random.default_rng(0).uniform(-level, level, 16_000)
            file.writeframes(noise.astype("<i2").tobytes())
    whole, heard = asr_noise.measure(Babbler(False), Babbler(True), tmp_path, limit=9)
    assert (whole.collection.whole, heard.collection.whole) == (True, False)
    assert (whole.files, whole.segments, whole.texts, whole.kept) == (3, 3, 3, 2)
    assert heard.segments == heard.texts == 0, "white noise is no speech"
    few, _ = asr_noise.measure(Babbler(False), Babbler(True), tmp_path, limit=2)
    assert few.files == 2


def test_a_folder_without_recordings_is_refused(tmp_path):
    with pytest.raises(SourceError, match="--data"):
        asr_noise.measure(Babbler(False), Babbler(True), tmp_path, limit=1)


@pytest.mark.parametrize("flag", ["--parts", "--noise"])
def test_the_command_prints_a_table_of_either(flag, clips, tmp_path, monkeypatch, capsys):
    loaded = []

    def load(_name, options):
        loaded.append(options)
        return Slow()

    monkeypatch.setattr(asr, "load_transcriber", load)
    monkeypatch.setattr(asr_noise, "COLLECTIONS", asr_noise.COLLECTIONS[:1])
    out = tmp_path / "asr.json"
    assert asr.main([flag, "--data", str(SHARED), "--limit", "1", "--json", str(out)]) == 0
    figures = json.loads(out.read_text())["figures"]
    if flag == "--parts":
        assert set(figures) == {"without parts", "with parts"}
        assert figures["with parts"]["settled_words"] > figures["without parts"]["settled_words"]
    else:
        assert loaded[1]["guards"]["least_letters_per_s"] == 0
        assert figures["noise, whole clips"]["texts_with_guards"] == 1
    assert "slow 1" in capsys.readouterr().out
