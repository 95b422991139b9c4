from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from trainer_fakes import write_wav

from abhinaya.models.base import SAMPLE_RATE
from abhinaya.train.data.audio import read_audio
from abhinaya.train.data.channels import Channel, Surroundings, send_through
from abhinaya.train.data.clips import read_clips, read_readers
from abhinaya.train.data.texts import sentences, with_errors
from abhinaya.train.errors import DataError


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.3 * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def power(samples: np.ndarray) -> float:
    return float(np.mean(samples**2))


def test_the_index_gives_clips_and_splits_without_a_common_speaker(tiny: Path) -> None:
    clips = read_clips(tiny, ["ravdess", "nemo"])
    assert len(clips) == 6 * 7 * 2
    of = {split: {c.speaker for c in clips if c.split == split} for split in ("train", "dev")}
    assert of["dev"] == {"ravdess_17", "nemo_KD0"}
    assert not of["train"] & of["dev"]


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


def test_audio_of_another_rate_arrives_at_16_khz(tiny: Path, tmp_path: Path) -> None:
    clip = read_clips(tiny, ["nemo"])[0]
    samples = read_audio(clip.path)
    assert 0.45 * SAMPLE_RATE < len(samples) < 0.95 * SAMPLE_RATE
    broken = tmp_path / "text.wav"
    broken.write_text("not audio")
    for path in (broken, tmp_path / "none.wav"):
        with pytest.raises(DataError, match=path.name):
            read_audio(path)


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


def test_sentences_are_normalised_and_labelled(tiny: Path) -> None:
    comments = sentences(tiny, "goemotions", "train")
    assert (comments[0].transcript, comments[0].label) == ("its anger 0", "angry")
    assert set(comments[-1].votes) == {"angry", "disgust"}
    found = [(c.transcript, c.label) for c in sentences(tiny, "emorynlp", "dev")]
    assert found == [("oh no", "fear"), ("coffee", "neutral")]
    talk = [(c.transcript, c.label) for c in sentences(tiny, "reccon", "train")]
    assert talk[:2] == [("its lovely 0", "happy"), ("its noon 0", "neutral")]
    assert len(talk) == 18


@pytest.mark.parametrize("rate", [0.0, 0.2, 1.0])
def test_words_go_wrong_as_often_as_asked(rate: float) -> None:
    text = " ".join(f"w{i}" for i in range(4_000))
    wrong = with_errors(text, rate, ["other"], np.random.default_rng(0)).split()
    assert _dropped(text, wrong) / 4_000 == pytest.approx(0.75 * rate, abs=0.02)


def _dropped(text: str, wrong: list[str]) -> int:
    """Words of the text that are gone, dropped or exchanged."""
    return len(set(text.split()) - set(wrong))


@pytest.mark.parametrize("content", ["{", "[]", '{"tr_0": []}', '{"tr_0": [[{"emotion": "sad"}]]}'])
def test_talk_of_another_layout_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "text" / "reccon" / "train.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(DataError, match=r"train\.json: not RECCON's dialogues"):
        sentences(tmp_path, "reccon", "train")


def test_every_reader_is_on_one_side_for_good(tmp_path: Path) -> None:
    folder = tmp_path / "neutral_voices"
    readers = [str(number) for number in range(40)]
    for reader in readers:
        for take in ("a", "b"):
            write_wav(folder / f"{reader}-{take}.opus", np.zeros(800))
    train, dev = (read_readers(tmp_path, side) for side in ("train", "dev"))
    of_train, of_dev = ({clip.speaker for clip in clips} for clips in (train, dev))
    assert not of_train & of_dev
    assert len(of_train | of_dev) == 40
    assert len(train) + len(dev) == 80
    assert {clip.label for clip in train + dev} == {"neutral"}
    for path in folder.glob("0-*.opus"):  # whoever else is there decides nothing
        path.unlink()
    again = {clip.speaker for clip in read_readers(tmp_path, "train")}
    assert again == of_train - {"neutral_voices_0"}
