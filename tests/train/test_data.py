from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from abhinaya.models.compact.features import SAMPLE_RATE
from abhinaya.models.compact.running import SpeechStatistics
from abhinaya.models.compact.voice import PITCH_MOTION, frame_values
from abhinaya.train.data.audio import read_audio
from abhinaya.train.data.channels import Channel, Surroundings, draw_channel, send_through
from abhinaya.train.data.clips import DataError, read_clips
from abhinaya.train.data.sessions import render, sums_in_turn
from abhinaya.train.data.texts import Sentence, read_emorynlp, read_goemotions
from abhinaya.train.data.word_errors import with_errors
from abhinaya.train.speech_batches import BatchPlan, SpeechBatches, heard_before
from abhinaya.train.splits import part_of, select


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.3 * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def power(samples: np.ndarray) -> float:
    return float(np.mean(samples**2))


def test_the_index_gives_clips_and_parts_without_a_common_speaker(tiny: Path) -> None:
    clips = read_clips(tiny, ["ravdess", "nemo"])
    assert len(clips) == 6 * 7 * 2
    parts = {part: {c.speaker for c in select(clips, part)} for part in ("fit", "tune", "dev")}
    assert parts["tune"] == {"ravdess_15", "nemo_MK0"}
    assert parts["dev"] == {"ravdess_17", "nemo_KD0"}
    assert not parts["fit"] & (parts["tune"] | parts["dev"])
    assert {part_of(c) for c in clips} == {"fit", "tune", "dev"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.wav,x,s1,speech,glee,train", "unknown labels"),
        ("a.wav,x,s1,speech,sad,train\nb.wav,x,s1,speech,sad,dev", "more than one split: s1"),
        ("a.wav,y,s1,speech,sad,train", "no clips of x"),
    ],
)
def test_a_broken_index_is_refused(line: str, message: str, tmp_path: Path) -> None:
    header = "path,corpus,speaker,kind,label8,suggested_split\n"
    (tmp_path / "speech.csv").write_text(header + line + "\n")
    with pytest.raises(DataError, match=message):
        read_clips(tmp_path, ["x"])


def test_a_missing_index_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data"):
        read_clips(tmp_path, ["x"])


def test_audio_of_another_rate_arrives_at_16_khz(tiny: Path, tmp_path: Path) -> None:
    clip = read_clips(tiny, ["nemo"])[0]
    samples = read_audio(clip.path)
    assert 0.45 * SAMPLE_RATE < len(samples) < 0.95 * SAMPLE_RATE
    broken = tmp_path / "text.wav"
    broken.write_text("not audio")
    for path in (broken, tmp_path / "none.wav"):
        with pytest.raises(DataError, match=path.name):
            read_audio(path)


def test_a_plain_channel_changes_nothing() -> None:
    samples = tone(440)
    arrived = send_through(samples, Channel(), np.random.default_rng(0))
    np.testing.assert_allclose(arrived, samples, atol=1e-5)


def test_a_band_passes_what_is_inside_and_stops_what_is_not() -> None:
    rng, band = np.random.default_rng(0), Channel(low_hz=300.0, high_hz=3_400.0)
    for hz, passes in ((100.0, False), (1_000.0, True), (5_000.0, False)):
        kept = power(send_through(tone(hz), band, rng)) / power(tone(hz))
        assert kept == pytest.approx(1.0, abs=0.05) if passes else kept < 0.01


def test_noise_comes_at_the_wanted_distance(tiny: Path) -> None:
    around = Surroundings.find(tiny)
    channel = Channel(noise=around.noises[0], snr_db=10.0)
    samples = tone(440)
    noise = send_through(samples, channel, np.random.default_rng(0)) - samples
    assert 10 * np.log10(power(samples) / power(noise)) == pytest.approx(10.0, abs=0.2)


def test_faster_is_shorter_and_higher() -> None:
    fast = send_through(tone(400), Channel(speed=1.1), np.random.default_rng(0))
    assert len(fast) == pytest.approx(SAMPLE_RATE / 1.1, abs=20)
    peak = np.argmax(np.abs(np.fft.rfft(fast))) * SAMPLE_RATE / len(fast)
    assert peak == pytest.approx(440, abs=3)


def test_channels_are_drawn_by_seed(tiny: Path) -> None:
    around = Surroundings.find(tiny)
    first, again, other = (draw_channel(np.random.default_rng(s), around) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_sessions_hold_one_speaker_and_are_kept(tiny: Path, tmp_path: Path) -> None:
    clips = select(read_clips(tiny, ["ravdess", "nemo"]), "fit")
    sessions = render(clips, tiny, tmp_path, renderings=1, seed=3, workers=1)
    assert len(sessions.clips) == 2 * len(clips)
    for number in set(sessions.session.tolist()):
        members = np.flatnonzero(sessions.session == number)
        assert len({sessions.clips[i].speaker for i in members}) == 1
    (kept,) = tmp_path.iterdir()
    made = kept.stat().st_mtime_ns
    again = render(clips, tiny, tmp_path, renderings=1, seed=3, workers=1)
    assert kept.stat().st_mtime_ns == made
    np.testing.assert_array_equal(again.frames, sessions.frames)


def test_what_training_hears_is_what_the_front_would_have_heard(tiny: Path, tmp_path: Path) -> None:
    clips = [c for c in read_clips(tiny, ["ravdess"]) if c.speaker == "ravdess_01"]
    sessions = render(clips, tiny, tmp_path, renderings=0, seed=3, workers=1)
    others = np.arange(1, len(clips))
    trained = heard_before(sessions, 0, others, seconds=1e6)
    statistics = SpeechStatistics()
    for i in [*others, 0]:
        statistics.update(read_audio(sessions.clips[i].path))
    served = statistics.heard()
    # frames across the seams, the falling peak and half precision are all the difference
    assert served.frames == pytest.approx(trained.frames, rel=0.08)
    apart = np.abs(served.mean - trained.mean) / trained.std
    assert apart.max() < 0.2
    # these voices jump in pitch between clips and nowhere else
    assert np.abs(np.log(served.std / trained.std))[:PITCH_MOTION].max() < 0.15


def test_a_session_carries_the_peak_on_as_a_stream_does(tiny: Path) -> None:
    soft = 0.002 * np.random.default_rng(0).standard_normal(8_000).astype(np.float32)
    clip = np.concatenate([soft, tone(400)])
    (_, _), (alone, within) = sums_in_turn([frame_values(clip)] * 2)
    statistics = SpeechStatistics()
    statistics.update(clip)
    first = statistics.heard().frames
    statistics.update(clip)
    served = statistics.heard().frames - first
    # alone the hiss before the tone counts as speech; in a stream something louder was heard
    assert alone.weight > served + 40
    assert within.weight == pytest.approx(served, abs=5)


def test_batches_have_each_class_and_are_drawn_by_seed(tiny: Path, tmp_path: Path) -> None:
    clips = select(read_clips(tiny, ["ravdess", "nemo"]), "fit")
    sessions = render(clips, tiny, tmp_path, renderings=1, seed=3, workers=1)
    labels = tuple(sorted({c.label for c in clips}))
    plan = BatchPlan(size=200)
    one, same, other = (SpeechBatches(sessions, labels, plan, s).draw() for s in (0, 0, 1))
    features, mask, targets = one
    assert features.shape[:2] == mask.shape
    assert targets.sum(dim=0).min() > 200 / 7 * 0.5
    assert (features == same[0]).all()
    assert features.shape != other[0].shape or not (features == other[0]).all()


def test_sentences_are_normalised_and_labelled(tiny: Path) -> None:
    sentences = read_goemotions(tiny, "train")
    assert sentences[0] == Sentence("its anger 0", ("angry",))
    assert sentences[-1].labels == ("angry", "disgust")
    assert read_emorynlp(tiny, "dev") == [
        Sentence("oh no", ("fear",)),
        Sentence("coffee", ("neutral",)),
    ]


@pytest.mark.parametrize("rate", [0.0, 0.2, 1.0])
def test_words_go_wrong_as_often_as_asked(rate: float) -> None:
    text = " ".join(f"w{i}" for i in range(4_000))
    wrong = with_errors(text, rate, ["other"], np.random.default_rng(0)).split()
    assert _dropped(text, wrong) / 4_000 == pytest.approx(0.75 * rate, abs=0.02)


def _dropped(text: str, wrong: list[str]) -> int:
    """Words of the text that are gone, dropped or exchanged."""
    return len(set(text.split()) - set(wrong))


def test_a_sentence_never_loses_its_last_word() -> None:
    rng = np.random.default_rng(0)
    assert all(with_errors("no", 1.0, ["x"], rng) for _ in range(50))
