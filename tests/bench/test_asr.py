"""The bench of transcribers counts right, on clips that are made here."""

from __future__ import annotations

import json
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abhinaya.bench import asr, asr_clips
from abhinaya.models.asr import Transcription
from abhinaya.stream.errors import ConfigError, SourceError

WORDS = st.lists(st.sampled_from("abc"), max_size=6)


class Parrot:
    """Says the same whatever it hears."""

    model, version, licence, noncommercial = "parrot", "1", "MIT", False
    context_turns, incremental = 0, False

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
    (score,) = asr.measure(parrot, clips, batch=2)
    assert (score.corpus, score.clips, score.words) == ("ljspeech", 2, 8)
    assert score.audio_s == pytest.approx(2.0, abs=0.01)
    assert score.errors == 3, "of `it is a dog` the third word was heard"
    assert parrot.batches == [1, 2], "a first call to warm up, then the batch"
    twice = asr.total([score, score])
    assert (twice.words, twice.word_error_rate) == (16, score.word_error_rate)


def test_the_command_prints_a_table_and_writes_json(data, tmp_path, monkeypatch, capsys):
    loaded = []

    def load(name, options):
        loaded.append((name, options))
        return Parrot("a cat a hat")

    monkeypatch.setattr(asr, "load_transcriber", load)
    out = tmp_path / "asr.json"
    arguments = ["--data", str(data), "--limit", "1", "--json", str(out)]
    assert asr.main([*arguments, "--option", "beam_size=5", "--option", "model=small"]) == 0
    assert loaded == [("pocketsphinx", {"beam_size": 5, "model": "small"})]
    assert "parrot 1" in capsys.readouterr().out
    figures = json.loads(out.read_text())["figures"]
    assert figures["all"]["words"] == 4
    assert figures["ljspeech"]["word_error_rate"] == 0.0


def test_a_folder_without_clips_is_refused(tmp_path):
    with pytest.raises(SourceError, match="--data"):
        asr_clips.clips_in(tmp_path)


@pytest.mark.parametrize("arguments", [["--option", "beam"], ["--limit", "0"]])
def test_wrong_arguments_are_refused(data, arguments):
    with pytest.raises(ConfigError, match=arguments[0]):
        asr.main(["--data", str(data), *arguments])
