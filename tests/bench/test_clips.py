"""Recordings with known words are found, and words are compared as they are meant."""

from __future__ import annotations

import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abhinaya.bench import clips
from abhinaya.stream.errors import SourceError

WORDS = st.lists(st.sampled_from("abc"), max_size=6)


@pytest.fixture
def data(tmp_path):
    """Two ljspeech clips of a second; a third has no audio."""
    folder = tmp_path / "ljspeech"
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
    assert clips.distance(reference.split(), heard.split()) == errors


@given(WORDS, WORDS, WORDS)
def test_a_distance_is_a_distance(a, b, c):
    assert clips.distance(a, b) == clips.distance(b, a)
    assert (clips.distance(a, b) == 0) == (a == b)
    assert clips.distance(a, c) <= clips.distance(a, b) + clips.distance(b, c)
    assert abs(len(a) - len(b)) <= clips.distance(a, b) <= max(len(a), len(b))


def test_words_are_compared_as_whispers_normaliser_leaves_them():
    said = "It\u2019s - 'quoted', uh, Mr. TWENTY-five!"
    assert clips.words_of(said) == ["it", "is", "quoted", "mister", "25"]
    assert clips.words_of(said) == clips.words_of("it's quoted mister 25")


def test_clips_are_those_with_sound_and_text(data):
    found = clips.clips_in(data)
    assert [clip.path.name for clip in found] == ["LJ-0.opus", "LJ-1.opus"]
    assert len(clips.read(found[0].path)) == pytest.approx(16_000, abs=160)


def test_a_folder_without_clips_is_refused(tmp_path):
    with pytest.raises(SourceError, match="--data"):
        clips.clips_in(tmp_path)


def test_the_words_of_a_podcast_are_what_its_speakers_say(tmp_path):
    folder = tmp_path / "podcasts"
    folder.mkdir()
    for name in ("p01_e01", "p01_e01_fast", "p07_e01"):
        (folder / f"{name}.opus").touch()
        (folder / f"{name}.txt").write_text(
            "# A Show\nHost: Maya\n#fixture: x=y\n\n[00:00]\nMaya: Well: yes.\n\n[01:00]\nBo: No."
        )
    (clip,) = clips.long_clips_in(tmp_path)
    assert (clip.path.name, clip.text) == ("p01_e01.opus", "Well: yes. No.")
