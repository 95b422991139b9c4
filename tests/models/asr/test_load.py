"""Transcribers by name."""

from __future__ import annotations

import pytest

from abhinaya.models.asr import load_transcriber
from abhinaya.models.errors import OptionsError


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("faster-wisper", {}, "did you mean 'faster-whisper'"),
        ("kaldi", {}, "known: faster-whisper"),
        ("pocketsphinx", {"x": 4}, r'write model = "faster-whisper".*Whisper took its place'),
        ("faster-whisper", {"beams": 5}, "did you mean 'beam_size'"),
        ("faster-whisper", {"partials": 4}, "unknown option of faster-whisper"),
        ("faster-whisper", {"download_root": "/x"}, "known: .*language"),
    ],
)
def test_an_unknown_name_or_option_is_refused_with_what_there_is(name, options, message):
    with pytest.raises(OptionsError, match=message):
        load_transcriber(name, options)
