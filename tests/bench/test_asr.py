"""The bench of transcribers counts right, on clips that are made here."""

from __future__ import annotations

import json
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abhinaya.bench import asr, asr_clips, asr_noise
from abhinaya.models.asr import Transcription
from abhinaya.stream.errors import ConfigError, SourceError

WORDS = st.lists(st.sampled_from("abc"), max_size=6)


class Parrot:
    """Says the same whatever it hears."""

    model, version, licence, noncommercial = "parrot", "1", "MIT", False
    context_turns, incremental, stateful = 0, False, False

    def __init__(self, text):
        self.text = text
        self.batches = []

    def transcribe(self, batch):
        self.batches.append(len(batch))
        return [Transcription(self.text) for _ in batch]

    def forget(self, stream, sequence):
        pass


@pytest.fixture
def data(tmp_path):
    """Two ljspeech clips of a second, one of them with a contraction; another has no audio."""
    folder = tmp_path / asr.CLIPS / "ljspeech"
    folder.mkdir(parents=True)
    rows = []
    # the content decides what a file is, not its ending
    for i, text in enumerate(["A cat, a hat.", "It\u2019s a dog"]):
        with wave.open(str(folder / f"LJ-{i}.opus"), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes((np.sin(np.arange(16_000) / 9) * 9000).astype("<i2").tobytes())
        rows.append(f"LJ-{i}|raw|{text}")
    rows.append("LJ-9|raw|a clip that is not there")
    (folder / "metadata.csv").write_text("\n".join(rows), "utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("reference", "heard", "errors"),
    [
        ("a b c", "a b c", 0),
        ("a b c", "a x c", 1),
        ("a b c", "a c", 1),
        ("a b c", "a b b c", 1),
        ("a b c", "", 3),
        ("", "a b", 2),
        ("the cat sat on the mat", "a cat sat the mat now", 3),
    ],
)
def test_known_distances(reference, heard, errors):
    assert asr_clips.distance(reference.split(), heard.split()) == errors


@given(WORDS, WORDS, WORDS)
def test_a_distance_is_a_distance(a, b, c):
    assert asr_clips.distance(a, b) == asr_clips.distance(b, a)
    assert (asr_clips.distance(a, b) == 0) == (a == b)
    assert asr_clips.distance(a, c) <= asr_clips.distance(a, b) + asr_clips.distance(b, c)
    assert abs(len(a) - len(b)) <= asr_clips.distance(a, b) <= max(len(a), len(b))


def test_words_are_compared_as_whispers_normaliser_leaves_them():
    said = "It\u2019s - 'quoted', uh, Mr. TWENTY-five!"
    assert asr_clips.words_of(said) == ["it", "is", "quoted", "mister", "25"]
    assert asr_clips.words_of(said) == asr_clips.words_of("it's quoted mister 25")


def test_scores_add_up(data):
    clips = asr_clips.clips_in(data / asr.CLIPS)
    assert [clip.path.name for clip in clips] == ["LJ-0.opus", "LJ-1.opus"]
    parrot = Parrot("a cat a hat")
    (score,) = asr.measure(parrot, clips)
    assert (score.corpus, score.clips, score.words) == ("ljspeech", 2, 8)
    assert score.audio_s == pytest.approx(2.0, abs=0.01)
    assert score.errors == 3, "of `it is a dog` the third word was heard"
    assert parrot.batches == [1, 1, 1], "a first call to warm up, then a clip at a time"
    twice = asr.total("twice", [score, score])
    assert (twice.words, twice.word_error_rate) == (16, score.word_error_rate)


def test_the_command_prints_a_table_and_writes_json(data, tmp_path, monkeypatch, capsys):
    loaded = []

    def load(worker):
        loaded.append((worker.model, worker.options))
        return Parrot("a cat a hat")

    monkeypatch.setattr(asr, "transcriber_of", load)
    out = tmp_path / "asr.json"
    arguments = ["--data", str(data), "--limit", "1", "--json", str(out)]
    assert asr.main([*arguments, "--option", "beam_size=5", "--option", "model=small"]) == 0
    assert loaded == [("faster-whisper", {"threads": 1, "beam_size": 5, "model": "small"})]
    assert "parrot 1" in capsys.readouterr().out
    figures = json.loads(out.read_text())["figures"]
    assert figures["dev41"]["words"] == 4
    assert figures["ljspeech"]["word_error_rate"] == 0.0


def test_a_folder_without_clips_is_refused(tmp_path):
    with pytest.raises(SourceError, match="--data"):
        asr_clips.clips_in(tmp_path)


@pytest.mark.parametrize("arguments", [["--option", "beam"], ["--limit", "0"]])
def test_wrong_arguments_are_refused(data, arguments):
    with pytest.raises(ConfigError, match=arguments[0]):
        asr.main(["--data", str(data), *arguments])


def test_the_words_of_a_podcast_are_what_its_speakers_say(tmp_path):
    folder = tmp_path / "podcasts"
    folder.mkdir()
    for name in ("p01_e01", "p01_e01_fast", "p07_e01"):
        (folder / f"{name}.opus").touch()
        (folder / f"{name}.txt").write_text(
            "# A Show\nHost: Maya\n#fixture: x=y\n\n[00:00]\nMaya: Well: yes.\n\n[01:00]\nBo: No."
        )
    (clip,) = asr_clips.long_clips_in(tmp_path)
    assert (clip.path.name, clip.text, clip.long) == ("p01_e01.opus", "Well: yes. No.", True)


# --- what guards drop -----------------------------------------------------------------------------


class Babbler:
    """Says something of everything; or nothing of what is quiet."""

    model, version = "babbler", "1"

    def __init__(self, guarded):
        self.guarded = guarded

    def transcribe(self, batch):
        loud = [np.abs(heard.samples).max(initial=0) > 0.2 for heard in batch]
        return [
            Transcription("la la" if is_loud else "la" if not self.guarded else "")
            for is_loud in loud
        ]


@pytest.fixture
def noises(tmp_path):
    (tmp_path / "noise").mkdir()
    for name, level in (("quiet", 3_000), ("loud", 20_000), ("louder", 30_000)):
        with wave.open(str(tmp_path / "noise" / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            noise = np.random.default_rng(0).uniform(-level, level, 16_000)
            file.writeframes(noise.astype("<i2").tobytes())
    return tmp_path


def test_what_guards_drop_is_counted(noises):
    whole, heard = asr_noise.measure(Babbler(False), Babbler(True), noises, limit=9)
    assert (whole.collection.whole, heard.collection.whole) == (True, False)
    assert (whole.files, whole.segments, whole.texts, whole.kept) == (3, 3, 3, 2)
    assert (whole.words, whole.words_kept) == (5, 4)
    assert heard.segments == heard.texts == 0, "white noise is no speech"
    few, _ = asr_noise.measure(Babbler(False), Babbler(True), noises, limit=2)
    assert few.files == 2


def test_the_command_prints_a_table_of_what_guards_drop(noises, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        asr, "transcriber_of", lambda worker: Babbler("guards" not in worker.options)
    )
    out = tmp_path / "asr.json"
    assert asr.main(["--noise", "--data", str(noises), "--json", str(out)]) == 0
    assert json.loads(out.read_text())["figures"]["noise, whole clips"]["texts_with_guards"] == 2
    assert "babbler 1" in capsys.readouterr().out


def test_a_folder_without_recordings_is_refused(tmp_path):
    with pytest.raises(SourceError, match="--data"):
        asr_noise.measure(Babbler(False), Babbler(True), tmp_path, limit=1)
