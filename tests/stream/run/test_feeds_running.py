"""Feeds through the whole program: heard once, also after a kill, beside other inputs."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
import wave
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from feed_fakes import item, rss
from media_server import Download, Site, say, site

from abhinaya.bench.demo import CALL
from abhinaya.stream.sources import open_source
from abhinaya.stream.sources.base import InputConfig

pytestmark = pytest.mark.processes

SPEECH_S = 12


@pytest.fixture(scope="module")
def speech() -> bytes:
    """Twelve seconds of the demo call, as a wav."""
    chunks = open_source(InputConfig(str(CALL))).chunks()
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        while file.getnframes() < SPEECH_S * 16_000:
            file.writeframes((next(chunks).samples * 32767).astype("<i2").tobytes())
    return target.getvalue()


@pytest.fixture
def web(speech: bytes) -> Iterator[Site]:
    with site() as server:
        for number in range(1, 7):
            server.routes[f"/{number}.wav"] = Download(speech)
        server.routes["/feed"] = say(rss([item(n, f"/{n}.wav") for n in range(1, 4)]))
        yield server


class Program:
    """abhinaya-stream with its own folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "abhinaya.stream", *map(str, arguments), "--format", "jsonl"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | self.environment,
        )

    def run(self, *arguments: str | Path) -> tuple[int, list[dict[str, Any]], str]:
        process = self.start(*arguments)
        out, errors = process.communicate(timeout=240)
        assert "Traceback" not in errors
        return process.returncode, [json.loads(line) for line in out.splitlines()], errors

    def episodes(self) -> list[Path]:
        """Episodes that are stored."""
        return list(self.folder.rglob("*.audio"))


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def whole(events: list[dict[str, Any]]) -> list[str]:
    """Streams that came to their own end."""
    return [e["stream"] for e in events if e["type"] == "stream_ended" and not e["reason"]]


def test_the_newest_episodes_are_heard_once_and_not_kept(web: Site, program: Program) -> None:
    code, events, errors = program.run("--feed", web.url("/feed", user="joe:pw@"), "--newest", "2")
    assert code == 0, errors
    assert sorted(whole(events)) == ["Talk: Episode 2", "Talk: Episode 3"]
    for stream in whole(events):
        assert [e for e in events if e["type"] == "verdict" and e["stream"] == stream]
    assert "joe" not in json.dumps(events) + errors
    assert program.episodes() == []
    web.requests.clear()
    code, events, errors = program.run("--feed", web.url("/feed", user="joe:pw@"), "--newest", "3")
    assert code == 0, errors
    assert whole(events) == ["Talk: Episode 1"]
    assert [path for path, _ in web.requests if path != "/feed"] == ["/1.wav"]


@pytest.mark.slow
def test_bad_feeds_and_episodes_end_alone_beside_good_ones_and_other_inputs(
    web: Site, program: Program
) -> None:
    web.routes["/page"] = say(b"<html><body>Hello</body></html>")
    web.routes["/mixed"] = say(
        rss([item(1, "/1.wav"), item(2, "/gone.wav"), item(3, "/page"), item(4, "/noise")], "Mixed")
    )
    web.routes["/noise"] = say(bytes(range(256)) * 500)
    web.routes["/none"] = say(rss([], "None"))
    feeds = [f"--feed={web.url(path)}" for path in ("/mixed", "/page", "/none", "/dead")]
    code, events, errors = program.run(*feeds, "--newest=4", CALL, "--keep", program.folder / "k")
    assert code == 3
    assert sorted(whole(events)) == ["Mixed: Episode 1", "call"]
    for words in (
        "Mixed: Episode 2", "does not exist (HTTP 404)", "Mixed: Episode 3",
        "is a web page, not audio", "cannot be decoded as audio",
        "is a web page, not a feed", "has no sound in its 0 entries",
    ):  # fmt: skip
        assert words in errors, words
    assert len(program.episodes()) == 2  # kept: the good one, and the one that could not be heard
    code, events, _ = program.run(*feeds, "--newest=4")
    assert code == 3
    assert whole(events) == []  # what failed is tried again, what was heard is not


@pytest.mark.slow
def test_a_feed_that_is_followed_and_killed_again_and_again_is_heard_once(
    web: Site, program: Program, speech: bytes
) -> None:
    command = ("--feed", web.url("/feed"), "--follow", "--newest", "3",
               "--set", "feeds.interval_s=0.3", "--set", "feeds.parallel=1",
               "--append", "--output", program.folder / "all.jsonl")  # fmt: skip
    done: Counter[str] = Counter()
    kills = 0
    for after in (0, 1, 3, 4):  # verdicts, then kill -9
        process = program.start(*command)
        assert process.stdout
        verdicts = 0
        for line in process.stdout:
            event = json.loads(line)
            done.update(whole([event]))
            verdicts += event["type"] == "verdict"
            if (after and verdicts >= after) or (not after and event["type"] == "stream_started"):
                break
        if after == 3:  # just behind an end is where it is easiest to do it twice
            for line in process.stdout:
                done.update(whole([json.loads(line)]))
                if done and whole([json.loads(line)]):
                    break
            time.sleep(0.05)
        process.kill()
        process.communicate()
        kills += 1
    items = [item(n, f"/{n}.wav") for n in range(1, 6)]
    web.routes["/feed"] = say(rss(items))  # two more, while nobody listens
    process = program.start(*command)
    assert process.stdout
    deadline = time.monotonic() + 120
    for line in process.stdout:
        done.update(whole([json.loads(line)]))
        if len(done) == 5:
            break
        assert time.monotonic() < deadline
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    done.update(whole([json.loads(line) for line in out.splitlines()]))
    assert process.returncode == 0, errors
    assert kills == 4
    assert done == Counter({f"Talk: Episode {n}": 1 for n in range(1, 6)})
    written = [json.loads(x) for x in (program.folder / "all.jsonl").read_text().splitlines()]
    assert Counter(whole(written)) == done  # of all runs together
    assert program.episodes() == []


@pytest.mark.slow
def test_ctrl_c_leaves_an_episode_for_the_next_time(web: Site, program: Program) -> None:
    command = ("--feed", web.url("/feed"), "--realtime", "--newest", "1")
    process = program.start(*command)
    assert process.stdout
    for line in process.stdout:
        if '"verdict"' in line:
            process.send_signal(signal.SIGINT)
            break
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert '"interrupted"' in out
    code, events, _ = program.run(*command[:2])
    assert (code, whole(events)) == (0, ["Talk: Episode 3"])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--follow",), 2, "add --feed URL"),
        (("--keep",), 2, "add --feed URL"),
        (("--feed", "feed.xml"), 3, "is not an address"),
        (("--feed", "ftp://x/feed"), 3, "ftp"),
        (("--feed", "http://x/feed", "--newest", "0"), 2, "leaves no episode"),
        (("--feed", "http://x/feed", "--feed", "http://x/feed"), 2, "twice"),
        (("--feed", "http://x/feed", "--keep", "/dev/null/x"), 4, "/dev/null"),
    ],
)
def test_wrong_usage_is_explained(
    program: Program, arguments: tuple[str, ...], code: int, words: str
) -> None:
    inputs = () if "--feed" in arguments else (CALL,)
    found, events, errors = program.run(*inputs, *arguments)
    assert (found, events) == (code, [])
    assert words in errors
