"""Transcribers by name."""

from __future__ import annotations

import pytest

from abhinaya.models.asr import load_transcriber
from abhinaya.models.errors import MissingFileError, OptionsError


def test_an_unknown_name_is_refused_with_the_near_miss():
    with pytest.raises(OptionsError, match="did you mean 'faster-whisper'"):
        load_transcriber("faster-wisper")


def test_a_name_like_no_other_lists_what_there_is():
    with pytest.raises(OptionsError, match="known: faster-whisper"):
        load_transcriber("kaldi")


def test_an_old_profile_hears_what_took_the_place_of_pocketsphinx():
    with pytest.raises(
        OptionsError, match=r'write model = "faster-whisper".*Whisper took its place'
    ):
        load_transcriber("pocketsphinx", {"partials": 4})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beams": 5}, "did you mean 'beam_size'"),
        ({"partials": 4}, "unknown option of faster-whisper"),
        ({"download_root": "/x"}, "known: .*language"),
    ],
)
def test_an_unknown_option_is_refused_by_name(options, message):
    with pytest.raises(OptionsError, match=message):
        load_transcriber("faster-whisper", options)


def test_a_missing_folder_is_refused():
    with pytest.raises(MissingFileError, match=r"/no/such/folder.*no such folder"):
        load_transcriber("faster-whisper", {"model": "/no/such/folder"})
