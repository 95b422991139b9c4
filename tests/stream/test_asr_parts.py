"""PocketSphinx on segments that still go on: parts, then the final one."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import av
import numpy as np
import pytest

from abhinaya.stream.asr import Hearing, load_transcriber
from abhinaya.stream.asr.sphinx_search import CLIPPED_PEAK, PART_PEAK
from abhinaya.stream.errors import ModelError

E2E = Path(__file__).parents[3] / "shared" / "data" / "e2e"
SECOND = 16_000


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono", SECOND)
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
        return np.concatenate([f.to_ndarray()[0] for f in frames]).astype(np.float32)


@pytest.fixture(scope="module")
def sphinx():
    return load_transcriber("pocketsphinx", {"partials": 2})


@pytest.fixture(scope="module")
def clips():
    if not E2E.exists():
        pytest.skip(f"{E2E} is not on this machine")
    names = ("ljspeech/LJ001-0001.opus", "librispeech_clean/1089-134686-0001.flac")
    return [decode(E2E / name)[: 7 * SECOND] for name in names]


def part(samples, seconds, stream="call", sequence=0):
    return Hearing(samples[: int(seconds * SECOND)], stream, sequence, final=False)


def final(samples, stream="call", sequence=0):
    return Hearing(samples, stream, sequence)


def one(transcriber, hearing):
    return transcriber.transcribe([hearing])[0]


def timed(transcriber, hearing):
    """Give what was said, and the seconds of CPU that it took."""
    begun = time.thread_time()
    said = one(transcriber, hearing)
    return said, time.thread_time() - begun


def follow(transcriber, samples, stream="call", sequence=0):
    """Hear a segment part by part; give what was said of each part, and finally."""
    times = np.arange(1.6, len(samples) / SECOND, 1.0)
    parts = [one(transcriber, part(samples, t, stream, sequence)) for t in times]
    return [*parts, one(transcriber, final(samples, stream, sequence))]


def shared_words(a, b):
    return len(set(a.text.split()) & set(b.text.split())) / len(set(b.text.split()))


def test_parts_grow_into_the_words_of_the_whole(sphinx, clips):
    for samples in clips:
        *parts, last = follow(sphinx, samples)
        whole = one(sphinx, final(samples))
        lengths = [len(said.words) for said in parts]
        assert lengths == sorted(lengths)
        assert lengths[-1] > 0.5 * len(whole.words)
        assert shared_words(last, whole) > 0.7
        assert all(word.confidence is not None for word in last.words)
        assert 0 < last.confidence < 1


def test_words_that_two_parts_agree_on_are_settled(sphinx, clips):
    *parts, _ = follow(sphinx, clips[0])
    assert parts[0].stable == 0, "nothing came before"
    assert parts[-1].stable > len(parts[-1].words) / 2
    for before, now in itertools.pairwise(parts):
        assert now.stable <= min(len(before.words), len(now.words))
        assert now.text.split()[: now.stable] == before.text.split()[: now.stable]


def test_the_final_words_are_there_sooner_than_without_parts(sphinx, clips):
    samples = clips[0]
    _, alone_s = timed(sphinx, final(samples))
    one(sphinx, part(samples, 5.0))
    one(sphinx, part(samples, len(samples) / SECOND - 1))
    _, rest_s = timed(sphinx, final(samples))
    assert rest_s < 0.6 * alone_s


def test_streams_do_not_mix(sphinx, clips):
    apart = [follow(sphinx, samples, "alone", i) for i, samples in enumerate(clips)]
    together = [[], []]
    for t in np.arange(1.6, 7, 1.0):
        for i, samples in enumerate(clips):
            if t < len(samples) / SECOND:
                together[i].append(one(sphinx, part(samples, t, f"s{i}")))
    heard = [final(samples, f"s{i}") for i, samples in enumerate(clips)]
    for said, last in zip(together, sphinx.transcribe(heard), strict=True):
        said.append(last)
    assert together == apart


def test_a_final_one_without_parts_is_transcribed_whole(sphinx, clips):
    fresh = load_transcriber("pocketsphinx")
    assert one(sphinx, final(clips[1], "other", 7)) == one(fresh, Hearing(clips[1]))


def test_other_audio_than_in_its_parts_is_transcribed_whole(sphinx, clips):
    whole = one(sphinx, final(clips[1]))
    one(sphinx, part(clips[0], 3.0))
    assert one(sphinx, final(clips[1])) == whole
    changed = clips[1].copy()
    one(sphinx, part(changed, 3.0))
    changed = changed.copy()
    changed[7] += 0.001
    assert one(sphinx, final(changed)) == one(sphinx, final(changed, "new"))


def test_other_audio_than_in_the_part_before_begins_anew(sphinx, clips):
    expected = one(sphinx, part(clips[1], 3.0, "new"))
    one(sphinx, part(clips[0], 2.0, "changed"))
    assert one(sphinx, part(clips[1], 3.0, "changed")) == expected
    sphinx.forget("new", 0)
    sphinx.forget("changed", 0)


def test_what_gets_much_louder_is_measured_again(sphinx, clips):
    whisper = clips[1] * np.float32(0.01)
    loud = np.concatenate([whisper[:SECOND], clips[1]])
    assert np.abs(clips[1]).max() / np.abs(whisper[:SECOND]).max() > CLIPPED_PEAK / PART_PEAK
    one(sphinx, part(loud, 1.0))
    assert one(sphinx, final(loud)) == one(sphinx, final(loud, "other"))


def test_a_final_one_may_end_before_its_last_part(sphinx, clips):
    """The length limit cuts a segment at a pause that lies back."""
    samples = clips[0]
    cut = samples[: 5 * SECOND]
    whole, alone_s = timed(sphinx, final(cut))
    one(sphinx, part(samples, 4.0))
    one(sphinx, part(samples, 6.5))
    last, rest_s = timed(sphinx, final(cut))
    assert rest_s < alone_s / 2, "nothing was left to search"
    assert shared_words(last, whole) > 0.6
    assert last.words[-1].end <= len(cut)
    assert abs(len(last.words) - len(whole.words)) <= 3


def test_beyond_the_decoders_parts_say_so_and_final_ones_are_whole(sphinx, clips):
    samples = clips[1]
    for stream in ("a", "b"):
        assert one(sphinx, part(samples, 2.0, stream)).text
    left_out = one(sphinx, part(samples, 2.0, "c"))
    assert (left_out.text, left_out.stable) == ("", 0)
    assert "too many" in left_out.reason
    assert one(sphinx, final(samples, "c")) == one(sphinx, Hearing(samples))
    sphinx.forget("a", 0)
    assert one(sphinx, part(samples, 2.0, "c")).text, "the decoder of `a` is free again"
    sphinx.forget("b", 0)
    sphinx.forget("c", 0)


def test_without_decoders_for_parts_nothing_is_followed(clips):
    none = load_transcriber("pocketsphinx", {"partials": 0})
    assert not none.incremental
    assert "too many" in one(none, part(clips[1], 2.0)).reason
    assert one(none, final(clips[1])).text


def test_silence_before_the_first_words_needs_no_decoder(sphinx, clips):
    samples = np.concatenate([np.zeros(2 * SECOND, np.float32), clips[1]])
    assert one(sphinx, part(samples, 1.5)).reason == "silence"
    *_, last = follow(sphinx, samples)
    assert shared_words(last, one(sphinx, final(clips[1]))) > 0.6


@pytest.mark.parametrize("length", [0, 1, 159, 400])
def test_a_scrap_of_a_part_does_no_harm(sphinx, clips, length):
    one(sphinx, Hearing(clips[1][:length], "scrap", 0, final=False))
    last = one(sphinx, final(clips[1], "scrap"))
    assert shared_words(last, one(sphinx, final(clips[1]))) > 0.6


def test_samples_that_are_no_numbers_count_as_silence(sphinx, clips):
    broken = clips[1].copy()
    broken[SECOND : SECOND + 800] = np.nan
    broken[2 * SECOND] = np.inf
    mended = np.nan_to_num(broken, nan=0.0, posinf=0.0, neginf=0.0)
    assert follow(sphinx, broken) == follow(sphinx, mended)


def test_the_same_part_twice_changes_nothing(sphinx, clips):
    once = one(sphinx, part(clips[1], 3.0))
    again = one(sphinx, part(clips[1], 3.0))
    assert again.words == once.words
    assert again.stable == len(once.words)
    sphinx.forget("call", 0)


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"partials": -1}, "partials = -1.*give 0 to"),
        ({"partials": "all"}, "partials = 'all'"),
        ({"partial": 2}, "did you mean 'partials'"),
        ({"hotwords": ["abhinaya"]}, "hotwords.*faster-whisper"),
        ({"previous_text": True}, "previous_text.*leave it out"),
        ({"guards": {"least_confidense": 0.1}}, "did you mean 'least_confidence'"),
    ],
)
def test_options_that_are_none_are_refused_with_a_remedy(options, message):
    with pytest.raises(ModelError, match=message):
        load_transcriber("pocketsphinx", options)


def test_what_is_doubtful_is_not_said(clips):
    strict = load_transcriber("pocketsphinx", {"guards": {"least_confidence": 1.0}})
    said = one(strict, final(clips[1]))
    assert (said.text, said.words, said.confidence) == ("", (), None)
    assert said.reason.startswith("low confidence")
