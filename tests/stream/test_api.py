"""`Monitor` in one process: the verdicts that the processes give, and the errors of the tree."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
import logging
import signal
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from abhinaya.bench.demo import CALL
from abhinaya.stream import Monitor, api
from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.errors import AbhinayaError, ConfigError, ModelError, SourceError
from abhinaya.stream.settings.compliance import ComplianceConfig
from abhinaya.stream.sinks.events import to_dict
from abhinaya.stream.sources.array import open_arrays
from abhinaya.stream.sources.base import InputConfig
from abhinaya.stream.sources.opening import open_source
from abhinaya.stream.wire.messages import NOT_JUDGED, Verdict

NAMES = ("agent", "customer")
CLOCKS = ("wall_time", "latency_ms", "queue_ms", "run_ms", "batch_size", "source", "run")
"""What differs between two runs over the same audio."""
ROUNDING = 0.002
"""Whisper's 8-bit sums differ by where a process has its memory: in word confidences only."""


@pytest.fixture(scope="module")
def monitor() -> Iterator[Monitor]:
    with Monitor() as opened:
        yield opened


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """The first 9 s of the demo call, both channels in one, [n]."""
    source = open_source(InputConfig(str(CALL)))
    samples = np.concatenate([chunk.samples for chunk in source.chunks()])[: 9 * SAMPLE_RATE, 0]
    source.close()
    return samples


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if key not in CLOCKS}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def of(events: list[dict[str, Any]], stream: str) -> list[tuple[dict[str, Any], list[float]]]:
    """The events of a stream, the confidences of their words apart."""
    chosen = [event for event in events if event["stream"] == stream]
    words = [(event.get("transcript") or {}).get("words", []) for event in chosen]
    confidences = [[word.pop("confidence") for word in each] for each in words]
    texts = [event.get("transcript") or {} for event in chosen]
    return [
        (e, [*c, *([t.pop("confidence")] if t else [])])
        for e, c, t in zip(chosen, confidences, texts, strict=True)
    ]


def collect(verdicts: Iterator[Verdict], labels: list[str]) -> None:
    for verdict in verdicts:
        labels.append(verdict.label)  # one by one: the iterator may break off


def facts(verdicts: Iterator[Verdict]) -> list[Any]:
    return [timeless(to_dict(verdict, 0.0)) for verdict in verdicts]


def write(path: Path, samples: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return path


@pytest.mark.processes
def test_its_events_are_those_of_the_processes(monitor: Monitor) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "abhinaya.stream", str(CALL), "--format", "jsonl"),
            *("--channels", "split", "--channel-names", ",".join(NAMES)),
            # a busy machine is not what this test is about
            *("--set", "deadlines.task_s=250", "--set", "supervise.silent_s=60"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    of_streams = ("verdict", "gap", "stream_started", "stream_ended")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    expected = [timeless(line) for line in lines if line["type"] in of_streams]
    came = [
        timeless(to_dict(event, 0.0))
        for event in monitor.events(CALL, channels="split", names=NAMES)
    ]
    came = [event for event in came if event["type"] in of_streams]
    for stream in ("call/agent", "call/customer"):
        pairs = zip(of(came, stream), of(expected, stream), strict=True)
        for (event, confidences), (twin, others) in pairs:
            assert event == twin
            assert confidences == pytest.approx(others, abs=ROUNDING)
    assert len(came) == len(expected) > 20


def test_in_compliance_mode_the_customer_is_judged_as_before_and_the_agent_not(
    monitor: Monitor,
    speech: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    both = np.stack([speech, speech], axis=1)
    before = facts(monitor.label(both, name="call", channels="split", names=NAMES))
    eu = dataclasses.replace(monitor._config, compliance=ComplianceConfig(mode="eu"))
    monkeypatch.setattr(monitor, "_config", eu)
    events = [
        timeless(to_dict(event, 0.0))
        for event in monitor.events(both, name="call", channels="split", names=NAMES, consent="yes")
    ]
    assert {e["consent"] for e in events if e["type"] == "stream_started"} == {"yes"}
    verdicts = [e for e in events if e["type"] == "verdict"]
    agent = [v for v in verdicts if v["stream"] == "call/agent"]
    assert [v for v in verdicts if v not in agent] == [
        v for v in before if v["stream"] == "call/customer"
    ]
    assert len(agent) >= 2
    for verdict in agent:
        assert (verdict["label"], verdict["reason"], verdict["votes"]) == (
            "unknown",
            NOT_JUDGED,
            [],
        )
        assert "attributes" not in verdict
    assert "travel" in agent[0]["transcript"]["text"]
    assert {v["label"] for v in facts(monitor.label(speech))} == {"unknown"}
    assert "--channels split --channel-names" in caplog.text


def test_samples_fed_in_pieces_equal_samples_fed_whole(
    monitor: Monitor, speech: np.ndarray
) -> None:
    whole = facts(monitor.label(speech))
    cuts = np.sort(np.random.default_rng(5).integers(0, len(speech), 40))
    pieces = facts(monitor.label(iter(np.split(speech, cuts))))
    assert pieces == whole
    assert len(whole) >= 2
    assert whole[0]["stream"] == "audio"
    assert "travel" in whole[0]["transcript"]["text"]


def test_sixteen_bits_in_two_equal_channels_are_heard_alike(
    monitor: Monitor, speech: np.ndarray
) -> None:
    integers = np.round(speech * 32767).astype(np.int16)
    twice = facts(monitor.label(np.stack([integers, integers], axis=1)))
    split = facts(monitor.label(integers[:, None], channels="split", names=("left",), name="x"))
    assert [v["transcript"] for v in twice] == [v["transcript"] for v in split]
    assert {v["stream"] for v in split} == {"x/left"}


def test_many_files_are_labelled_as_each_alone(
    monitor: Monitor, speech: np.ndarray, tmp_path: Path
) -> None:
    parts = np.array_split(speech, 3)
    paths = [write(tmp_path / f"{n}.wav", part) for n, part in enumerate(parts)]
    alone = [fact for path in paths for fact in facts(monitor.label(path))]
    many = facts(monitor.label_files(paths, at_once=2))
    assert sorted(map(str, many)) == sorted(map(str, alone))
    labels: list[str] = []
    with pytest.raises(SourceError, match=r"no\.wav"):
        collect(monitor.label_files([*paths, tmp_path / "no.wav"]), labels)
    assert len(labels) == len(alone)
    again = {v.stream for v in monitor.label_files([paths[0], paths[0]])}
    assert again == {"0", "0-2"}


def test_a_live_source_gives_partial_verdicts_before_the_final_one(
    monitor: Monitor, speech: np.ndarray, tmp_path: Path
) -> None:
    path = write(tmp_path / "turn.wav", speech[: 4 * SAMPLE_RATE])
    came = list(monitor.listen(str(path), realtime=True, partials=True))
    assert [v.final for v in came].index(True) > 0
    finals = facts(v for v in came if v.final)
    assert [v["label"] for v in finals] == [v["label"] for v in facts(monitor.label(path))]
    assert all(v.final for v in monitor.listen(str(path), realtime=True))


def test_asyncio_gives_the_same(monitor: Monitor, speech: np.ndarray) -> None:
    async def collect() -> list[Any]:
        return [timeless(to_dict(v, 0.0)) async for v in monitor.alabel(speech)]

    assert asyncio.run(collect()) == facts(monitor.label(speech))


def test_it_leaves_the_process_as_it_was(monitor: Monitor, speech: np.ndarray) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    children = Path("/proc/self/task").glob("*/children")
    before = "".join(path.read_text() for path in children)
    assert facts(monitor.label(speech))
    children = Path("/proc/self/task").glob("*/children")
    assert "".join(path.read_text() for path in children) == before
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_an_iterator_that_is_left_frees_the_monitor(monitor: Monitor, speech: np.ndarray) -> None:
    verdicts = monitor.label(speech)
    first = next(verdicts)
    with pytest.raises(AbhinayaError, match="is busy with another source"):
        next(monitor.label(speech))
    verdicts.close()  # type: ignore[attr-defined]
    assert next(monitor.label(speech)).label == first.label


@pytest.mark.parametrize("used", [True, False])
def test_code_that_raises_leaves_no_input_open(
    monkeypatch: pytest.MonkeyPatch,
    monitor: Monitor,
    tmp_path: Path,
    speech: np.ndarray,
    used: bool,
) -> None:
    closed: list[str] = []

    def opened(config: InputConfig, *rest: Any, **more: Any) -> Any:
        source = open_arrays([speech], SAMPLE_RATE, config.what, "mix", print)
        return dataclasses.replace(source, closing=lambda: closed.append(config.what))

    def works(mine: Monitor) -> None:
        with mine:
            kept.append(mine.listen("http://host/radio"))
            if used:
                next(kept[0])
            raise ZeroDivisionError

    kept: list[Any] = []  # as a traceback or a notebook keeps it
    monkeypatch.setattr(api, "open_source", opened)
    mine = copy.copy(monitor)
    with pytest.raises(ZeroDivisionError):
        works(mine)
    assert closed == ["http://host/radio"]


def test_silence_and_no_samples_give_no_verdict(monitor: Monitor) -> None:
    assert not list(monitor.label(np.zeros(SAMPLE_RATE, np.float32)))
    assert not list(monitor.label(np.zeros(0, np.int16)))
    assert not list(monitor.label([]))


def test_what_is_not_a_number_is_reported_and_heard_as_silence(
    monitor: Monitor, speech: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    broken = speech.copy()
    broken[-SAMPLE_RATE // 2 :] = np.nan
    with caplog.at_level(logging.WARNING):
        assert facts(monitor.label(broken))
    assert "no numbers" in caplog.text or "not numbers" in caplog.text


@pytest.mark.parametrize(
    ("audio", "options", "said"),
    [
        ("/no/such.wav", {}, "/no/such.wav"),
        (np.zeros((2, 3, 4), np.float32), {}, r"shape \[2, 3, 4\]"),
        (np.zeros((2, 16000), np.float32), {}, "transpose"),
        (np.zeros(9, np.int64), {}, "int64"),
        (np.zeros(9, np.float32), {"sample_rate": 0}, "sample rate of 0"),
        (iter([np.zeros(9, np.int16), np.zeros((9, 2), np.int16)]), {}, "2 channels after one"),
        ((1 // 0 for _ in "x"), {}, "ZeroDivisionError"),
    ],
)
def test_bad_audio_is_named(
    monitor: Monitor, audio: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(SourceError, match=said):
        list(monitor.label(audio, **options))


def test_what_came_before_an_iterator_broke_is_labelled(
    monitor: Monitor, speech: np.ndarray
) -> None:
    def breaking() -> Iterator[np.ndarray]:
        yield speech
        raise OSError("the line is dead")

    labels: list[str] = []
    with pytest.raises(SourceError, match="the line is dead"):
        collect(monitor.label(breaking()), labels)
    assert labels == [verdict.label for verdict in monitor.label(speech)]


def test_wrong_names_profiles_and_settings_are_refused(monitor: Monitor) -> None:
    with pytest.raises(ConfigError, match="names 1 channels"):
        list(monitor.label(np.zeros((9, 2), np.int16), channels="split", names=("a",)))
    with pytest.raises(ConfigError, match="nonsense"):
        Monitor("nonsense")
    with pytest.raises(ConfigError, match="pad_s"):
        Monitor(vad__pad_x=1)
    with pytest.raises(ModelError):
        Monitor(asr__options={"model": "/no/such/model"})


def test_a_closed_monitor_says_so() -> None:
    with Monitor() as closed:
        pass
    with pytest.raises(AbhinayaError, match="is closed"):
        next(closed.label(CALL))
