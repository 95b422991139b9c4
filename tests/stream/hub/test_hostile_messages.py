"""No message can kill: a million with hostile values, and ten minutes of a guided fuzzer."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import fakes
import msgspec
import pytest
from hostile import HOSTILE, World, good_run, mutated
from msgspec.structs import replace
from places import ROOT

from abhinaya.stream.wire.codec import Encoder
from abhinaya.stream.wire.messages import Died, Ready, Subscribe

CORPUS = ROOT / "tests" / "fuzz" / "corpus"
PLAIN = [msgspec.msgpack.decode(Encoder().encode(m)[0]) for m in fakes.one_of_each()]


def hear(count: int, seed: int) -> int:
    """Let a world hear hostile messages; return the number that it refused."""
    rng = random.Random(seed)
    refused = 0
    while count > 0:
        world = World()
        world.feed(good_run())
        for _ in range(min(count, 2_000)):
            who = rng.choice((0, 0, 0, 1, 2, 3, 4, 5, 5, 6, 9, 200))
            world.receive(who, rng.randrange(4), mutated(rng, PLAIN))
        count -= 2_000
        refused += world.refused
    return refused


def test_20_000_hostile_messages_break_nothing() -> None:
    assert hear(20_000, seed=1) > 2_000


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_million_hostile_messages_break_nothing() -> None:
    assert hear(1_000_000, seed=2) > 100_000


def test_a_run_that_behaves_is_understood() -> None:
    world = World()
    world.feed(good_run())
    assert world.refused == 0
    assert world.broker.refusals.counts() == {}


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:20])
def test_each_hostile_value_in_each_place_of_each_message(value) -> None:
    world = World()
    for plain in PLAIN:
        for field in plain:
            header = msgspec.msgpack.encode({**plain, field: value})
            for who in range(7):
                world.receive(who, 1 if plain["type"] == "Segment" else 0, header)
        world.receive(200, 0, b"")


def test_a_message_that_may_be_sent_cannot_make_the_hub_send_one_that_nobody_can_read() -> None:
    long = "x" * 30_000
    labels = tuple(f"{number}{long[:1000]}" for number in range(100))
    s1 = fakes.service("S1", labels=())
    many = tuple(replace(s1, name=f"{number}{long[:1000]}") for number in range(60))
    world = World()
    world.feed(good_run())
    read_all = Subscribe(sink="reader", confirm=False)
    world.deliver(world.broker.from_sink(world.now, b"reader", read_all))
    world.say(b"labels", fakes.ready("S1", node="labels", labels=labels))
    world.say(b"many", Ready(node="many", incarnation="1", gives=many, credits=1))
    for number in range(1_100):
        name = f"{number:04}" + 63 * "\U0001f600"
        world.say(name.encode(), fakes.ready("asr S1 T2 ST1", node=name))
        world.say(b"f" + name.encode(), fakes.hello(fakes.info(name), front=name))
    for name in ("asr", "S1", "T2"):
        died = Died(name=f"{name}-0", reason=long + long[:2768], services=(name,))
        world.deliver(world.broker.from_sink(world.now, b"recorder", died))
    for _ in range(100):
        world.receive(16, 0, b"")
    assert world.broker.refusals.counts()


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_what_the_fuzzer_has_found_so_far(path: Path) -> None:
    World().feed(path.read_bytes())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_fuzzer_that_sees_the_code_finds_nothing(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed (extra dev, Linux only)")
    seconds = os.environ.get("ABHINAYA_FUZZ_SECONDS", "600")
    fuzzer = str(ROOT / "tests" / "fuzz" / "fuzz_hub.py")
    limits = [f"-max_total_time={seconds}", f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run(
        [sys.executable, fuzzer, str(tmp_path), str(CORPUS), *limits],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
