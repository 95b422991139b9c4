"""Transcribers by name, and PocketSphinx on speech with known words."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest

from abhinaya.models.asr import Hearing, load_transcriber
from abhinaya.stream.errors import ModelError

E2E = Path(__file__).parents[3] / "shared" / "data" / "e2e"


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono", 16_000)
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
        return np.concatenate([f.to_ndarray()[0] for f in frames]).astype(np.float32)


@pytest.fixture(scope="module")
def sphinx():
    return load_transcriber("pocketsphinx")


@pytest.fixture(scope="module")
def clips():
    if not E2E.exists():
        pytest.skip(f"{E2E} is not on this machine")
    names = ("ljspeech/LJ001-0002.opus", "librispeech_clean/1089-134686-0001.flac")
    return [decode(E2E / name) for name in names]


def hear(transcriber, segments):
    """Transcribe whole segments."""
    return transcriber.transcribe([Hearing(samples) for samples in segments])


# --- names and options ----------------------------------------------------------------------------


def test_an_unknown_name_is_refused_with_the_near_miss():
    with pytest.raises(ModelError, match="did you mean 'pocketsphinx'"):
        load_transcriber("pocketsfinx")


def test_a_name_like_no_other_lists_what_there_is():
    with pytest.raises(ModelError, match="known: pocketsphinx, faster-whisper"):
        load_transcriber("kaldi")


def test_an_unknown_setting_is_refused_with_the_near_miss():
    with pytest.raises(ModelError, match="did you mean 'maxhmmpf'"):
        load_transcriber("pocketsphinx", {"maxhmpf": 10})


def test_an_unknown_option_of_whisper_is_refused_by_name():
    with pytest.raises(ModelError, match="beams"):
        load_transcriber("faster-whisper", {"beams": 5})


def test_a_missing_model_folder_is_refused():
    with pytest.raises(ModelError, match="hmm"):
        load_transcriber("pocketsphinx", {"hmm": "/no/such/folder"})


# --- PocketSphinx ---------------------------------------------------------------------------------


def test_it_says_what_it_is(sphinx):
    assert (sphinx.model, sphinx.licence, sphinx.noncommercial) == (
        "pocketsphinx",
        "BSD-2-Clause",
        False,
    )
    assert sphinx.version.startswith("5.")


def test_known_speech_gives_known_words(sphinx, clips):
    result = hear(sphinx, [clips[0]])[0]
    assert result.text.startswith("in being comparatively")
    assert result.language == "en"
    assert 0 < result.confidence < 1


def test_words_are_clean_ordered_and_within_the_segment(sphinx, clips):
    for samples, result in zip(clips, hear(sphinx, clips), strict=True):
        assert result.text == " ".join(word.text for word in result.words)
        assert result.text == result.text.lower()
        assert not set("<>[]()+") & set(result.text)
        edges = [edge for word in result.words for edge in (word.start, word.end)]
        assert edges == sorted(edges)
        assert 0 <= edges[0] < edges[-1] <= len(samples)
        assert all(0 <= word.confidence <= 1 for word in result.words)


def test_a_result_does_not_depend_on_its_neighbours(sphinx, clips):
    loud_noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    apart = [hear(load_transcriber("pocketsphinx"), [clip])[0] for clip in clips]
    assert hear(sphinx, clips) == apart
    assert hear(sphinx, [clips[1], loud_noise, clips[0]])[::2] == apart[::-1]


def test_the_level_of_the_recording_does_not_matter(sphinx, clips):
    loud, quiet = hear(sphinx, [clips[0], clips[0] * 0.002])
    assert quiet.text == loud.text != ""


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(0, np.float32),
        np.zeros(16_000, np.float32),
        np.full(16_000, np.nan, np.float32),
    ],
    ids=["nothing", "silence", "no numbers"],
)
def test_silence_has_no_words_and_says_so(sphinx, samples):
    result = hear(sphinx, [samples])[0]
    assert (result.text, result.words, result.confidence) == ("", (), None)
    assert result.reason == "silence"


@pytest.mark.parametrize("length", [1, 100, 400, 1600])
def test_a_scrap_of_audio_has_no_words(sphinx, length):
    noise = np.random.default_rng(1).standard_normal(length).astype(np.float32)
    result = hear(sphinx, [noise])[0]
    assert result.text == ""
    assert result.reason


def test_other_threads_get_their_turn_while_it_works(sphinx, clips):
    pauses, done = [], threading.Event()

    def tick() -> None:
        last = time.perf_counter()
        while not done.wait(0.002):
            now = time.perf_counter()
            pauses.append(now - last)
            last = now

    thread = threading.Thread(target=tick)
    thread.start()
    audio = np.tile(clips[0], 5)[:160_000]
    begun = time.perf_counter()
    hear(sphinx, [audio])
    took = time.perf_counter() - begun
    done.set()
    thread.join()
    assert max(pauses) < max(0.1, took / 4), f"no turn for {max(pauses):.2f} s of {took:.2f} s"
