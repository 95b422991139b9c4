"""The bench serves a podcast that the monitor hears, and tells the time it takes."""

from __future__ import annotations

import urllib.request

import pytest

from abhinaya.bench.demo import CALL
from abhinaya.bench.feeds import hear, podcast
from abhinaya.bench.recording import duration_s
from abhinaya.stream.feeds.parse import parse_feed


def test_the_podcast_has_the_episodes_asked_for():
    with podcast(CALL, 3) as url:
        with urllib.request.urlopen(url) as answer:
            found = parse_feed(answer.read(), url, "feed")
        with urllib.request.urlopen(found[0].url) as answer:
            assert answer.read() == CALL.read_bytes()
    assert [episode.guid for episode in found] == ["0", "1", "2"]


@pytest.mark.slow
@pytest.mark.processes
def test_a_podcast_is_heard_and_timed():
    with podcast(CALL, 2) as url:
        done = hear(url, 2, 1, 2, ["--accept-noncommercial"])
    assert done.audio_s == pytest.approx(2 * duration_s(CALL), abs=0.2)
    assert done.gaps == 0
    assert {"front-0", "front-1", "asr-0"} <= set(done.peak_mib)
