from __future__ import annotations

import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
import source_fakes as fakes

from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.errors import SourceError
from abhinaya.stream.settings.config import NetworkConfig
from abhinaya.stream.sources import InputConfig, open_source
from abhinaya.stream.sources.microphone import list_devices, open_microphone

BRIEF = NetworkConfig(first_pause_s=0.01, longest_pause_s=0.02, give_up_s=0.1)


def record(
    portaudio: Any,
    warnings: list[str],
    config: InputConfig,
    network: NetworkConfig = BRIEF,
    **options: Any,
) -> Any:
    return open_microphone(config, warnings.append, network, portaudio, stall_s=0.2, **options)


def test_only_devices_that_record_are_listed() -> None:
    devices = list_devices(fakes.FakePortAudio("Webcam", "Headset"))
    assert [(d.number, d.name, d.default) for d in devices] == [
        (1, "Webcam", True),
        (2, "Headset", False),
    ]


@pytest.mark.parametrize(("wanted", "number"), [("", 1), ("2", 2), ("headSET", 2), ("Web", 1)])
def test_a_device_is_named_by_number_or_part_of_its_name(wanted: str, number: int) -> None:
    portaudio = fakes.FakePortAudio("Webcam", "Headset")
    source = record(portaudio, [], InputConfig("mic", device=wanted))
    assert source.live
    assert portaudio.stream.started
    assert portaudio.stream.settings["device"] == number
    source.close()
    source.close()
    assert portaudio.stream.closed


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ("0", "no such device can record"),
        ("9", "no such device can record"),
        ("nothing", "no such device can record"),
        ("set", "fits more than one device: 1 'Headset A', 2 'Headset B'"),
    ],
)
def test_a_device_that_is_not_there_is_refused(wanted: str, reason: str) -> None:
    with pytest.raises(SourceError) as caught:
        record(fakes.FakePortAudio("Headset A", "Headset B"), [], InputConfig("mic", device=wanted))
    assert reason in caught.value.reason
    assert caught.value.remedy


def test_no_device_at_all_and_one_that_is_busy() -> None:
    with pytest.raises(SourceError, match="no device can record"):
        record(fakes.FakePortAudio(), [], InputConfig("mic"))
    busy = fakes.FakePortAudio("Webcam")
    busy.refusal = "Device unavailable"
    with pytest.raises(SourceError, match="does not open: Device unavailable"):
        record(busy, [], InputConfig("mic"))
    with pytest.raises(SourceError, match="has 2 channels, not 8"):
        record(fakes.FakePortAudio("Webcam"), [], InputConfig("mic", channel_count=8))


def drain(source: Any) -> tuple[Any, int, SourceError | None]:
    parts, lost, failure = [], 0, None
    try:
        for chunk in source.chunks():
            parts.append(chunk.samples)
            lost += chunk.lost_samples
    except SourceError as error:
        failure = error
    return np.concatenate(parts), lost, failure


def test_what_the_device_delivers_is_heard_until_it_is_unplugged() -> None:
    portaudio = fakes.FakePortAudio("Webcam")
    warnings: list[str] = []
    source = record(portaudio, warnings, InputConfig("mic", channels="split"))
    for part in np.array_split(fakes.tone(0.5, 48000, 2), 16):
        portaudio.stream.deliver(part)
    portaudio.stream.unplug()
    portaudio.devices.pop()
    samples, lost, failure = drain(source)
    expected = fakes.tone(0.5, SAMPLE_RATE, 2)
    assert samples.shape == expected.shape
    assert np.abs(samples[400:-400] - expected[400:-400]).max() < 0.002
    assert lost == 0
    assert "delivered no more audio after 0.5 s; trying to open it again" in warnings[0]
    assert failure is not None
    assert failure.reason == "is not back within 0.1 s (is not plugged in)"
    assert "still plugged in" in failure.remedy


def test_a_device_that_falls_silent_is_gone() -> None:
    portaudio = fakes.FakePortAudio("Webcam")
    source = record(portaudio, [], InputConfig("mic"))
    portaudio.refusal = "Device unavailable"
    portaudio.stream.deliver(fakes.tone(0.1, 48000, 2))
    samples, lost, failure = drain(source)
    assert (len(samples), lost) == (1600, 0)
    assert failure is not None
    assert "is not back within 0.1 s (does not open: Device unavailable)" in failure.reason


class Clock:
    """A wall clock that the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("frozen", [False, True], ids=["unplugged", "silent"])
def test_a_device_that_comes_back_is_heard_again_and_the_stream_keeps_its_clock(
    frozen: bool,
) -> None:
    clock, warnings = Clock(), list[str]()
    portaudio = fakes.FakePortAudio("Webcam", rate=16000.0)
    network = NetworkConfig(first_pause_s=0.01, longest_pause_s=0.02, give_up_s=20)
    source = record(portaudio, warnings, InputConfig("mic"), network, clock=clock)
    first = portaudio.stream
    clock.now += 0.1
    first.deliver(fakes.tone(0.1, 16000, 2))
    if not frozen:
        first.unplug()
    webcam = portaudio.devices.pop()
    chunks = source.chunks()
    assert len(next(chunks).samples) == 1600

    def come_back() -> None:
        """Another device has been plugged in meanwhile, so that its number is another one."""
        clock.now += 60.0
        portaudio.devices += [{**webcam, "name": "Headset"}, webcam]
        while portaudio.stream is first:
            time.sleep(0.01)
        clock.now += 0.2
        portaudio.stream.deliver(fakes.tone(0.2, 16000, 2))
        source.interrupt()

    threading.Timer(0.5, come_back).start()
    (chunk,) = chunks
    assert portaudio.stream.settings["device"] == 2
    assert first.closed
    assert chunk.lost_samples == 60 * SAMPLE_RATE
    assert len(chunk.samples) == 3200
    assert "microphone delivered no more audio after 0.1 s" in chunk.lost_reason
    assert [w.partition(": ")[2] for w in warnings] == [
        "delivered no more audio after 0.1 s; trying to open it again",
        "records again, 60.0 s are missing",
    ]
    source.close()


def test_a_stop_does_not_wait_for_a_device_that_has_vanished() -> None:
    portaudio = fakes.FakePortAudio("Webcam")
    source = record(portaudio, [], InputConfig("mic"), NetworkConfig(give_up_s=600))
    portaudio.stream.unplug()
    portaudio.devices.clear()
    threading.Timer(0.3, source.interrupt).start()
    begun = time.monotonic()
    assert list(source.chunks()) == []
    assert time.monotonic() - begun < 5


def test_closing_ends_the_recording_without_an_error() -> None:
    portaudio = fakes.FakePortAudio("Webcam")
    source = record(portaudio, [], InputConfig("mic"))
    portaudio.stream.deliver(fakes.tone(0.1, 48000, 2))
    source.close()
    samples, _, failure = drain(source)
    assert len(samples) == 1600
    assert failure is None


def test_an_overflow_in_the_device_is_measured_and_told() -> None:
    portaudio = fakes.FakePortAudio("Webcam", rate=16000.0)
    warnings: list[str] = []
    source = record(portaudio, warnings, InputConfig("mic"))
    portaudio.stream.deliver(fakes.tone(0.1, 16000, 2))
    portaudio.stream.deliver(fakes.tone(0.1, 16000, 2), overflowed_s=0.25)
    portaudio.stream.deliver(fakes.tone(0.1, 16000, 2), overflowed_s=0.5)
    source.close()
    chunks = list(source.chunks())
    assert [chunk.lost_samples for chunk in chunks] == [0, 4000, 8000]
    assert "250 ms lost at 0.1 s" in warnings[0]
    assert len(warnings) == 1  # each loss is in its chunk


def test_an_overflow_that_cannot_be_measured_is_one_block_at_least() -> None:
    portaudio = fakes.FakePortAudio("Webcam", rate=16000.0)
    source = record(portaudio, [], InputConfig("mic"))
    portaudio.stream.deliver(fakes.tone(0.1, 16000, 2), overflowed_s=0.25)
    source.close()
    assert [chunk.lost_samples for chunk in source.chunks()] == [1600]


def test_a_slow_reader_loses_the_newest_audio_and_is_told_how_much() -> None:
    portaudio = fakes.FakePortAudio("Webcam", rate=48000.0)
    warnings: list[str] = []
    source = record(portaudio, warnings, InputConfig("mic"), queue_s=0.032 * 4.5)
    block = fakes.tone(0.032, 48000, 2)
    for _ in range(10):
        portaudio.stream.deliver(block)
    chunks = source.chunks()
    given = len(next(chunks).samples)
    portaudio.stream.deliver(block)
    source.close()
    rest = list(chunks)
    given += sum(len(chunk.samples) for chunk in rest)
    lost = sum(chunk.lost_samples for chunk in rest)
    assert lost == pytest.approx(6 * 512, abs=2)
    assert given + lost == 11 * 512
    assert "192 ms lost at 0.1 s" in warnings[0]


def test_missing_portaudio_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoLibrary:
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NoLibrary(), *sys.meta_path])
    with pytest.raises(SourceError, match="apt install libportaudio2"):
        open_source(InputConfig("mic"))
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(SourceError, match="pip install sounddevice"):
        open_source(InputConfig("mic"))


def test_real_portaudio_answers_without_hardware() -> None:
    try:
        import sounddevice  # noqa: F401
    except OSError:
        pytest.skip("PortAudio is not installed here")
    assert all(device.channels > 0 for device in list_devices())
