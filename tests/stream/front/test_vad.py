from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from places import DATA, ROOT

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
        np.testing.assert_allclose(batch, single, atol=1e-5)
        assert batch.shape == (3,)
        assert ((batch >= 0) & (batch <= 1)).all()


def test_a_reset_state_is_a_fresh_one(vad: SileroVad) -> None:
    frames = noise(2, 10)
    state = VadState.fresh(2)
    first = [vad.probabilities(frame, state) for frame in frames]
    state.reset()
    assert np.array_equal(first, [vad.probabilities(frame, state) for frame in frames])


def test_the_state_matters(vad: SileroVad) -> None:
    frames = noise(1, 10)
    state = VadState.fresh(1)
    last = [vad.probabilities(frame, state) for frame in frames][-1]
    assert last != vad.probabilities(frames[-1], VadState.fresh(1))


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


def test_a_model_that_cannot_be_loaded_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="no such file"):
        SileroVad(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"not a network")
    with pytest.raises(ModelError, match="onnxruntime cannot load it"):
        SileroVad(tmp_path / "bad.onnx")
    monkeypatch.setattr(vad_module, "_MODEL", "gone.onnx")
    with pytest.raises(ModelError, match="the silero-vad package lacks it"):
        find_model()
    monkeypatch.setattr(vad_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="silero-vad is not installed"):
        find_model()


PROBE = """
import sys, time
begin = time.perf_counter()
import abhinaya.stream.front.listener, abhinaya.stream.sources
took = time.perf_counter() - begin
if len(sys.argv) > 1:
    from abhinaya.stream.settings.config import VadConfig
    from abhinaya.stream.sources import InputConfig, open_source
    from abhinaya.stream.front.listener import Listener
    source = open_source(InputConfig(sys.argv[1], channels="split"))
    listener = Listener(VadConfig(), source.channels)
    for chunk in source.chunks():
        listener.feed(chunk.samples)
    listener.finish()
print("torch" in sys.modules, "silero_vad" in sys.modules, took)
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak[0].split()[1]) / 1024)
"""


def probe(*arguments: str) -> tuple[bool, float, float]:
    """Run PROBE: whether torch was imported, seconds of the import, peak MiB."""
    run = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, check=True
    )
    torch, silero, took, peak = run.stdout.split()
    return "True" in (torch, silero), float(took), float(peak)


def test_hearing_is_light() -> None:
    call = ROOT / "bench" / "demo" / "call.opus"
    torch, _, peak_mib = probe(str(call))
    assert not torch
    assert peak_mib < 120
    imports = []
    for _ in range(3):  # the machine may be busy
        torch, took, _ = probe()
        assert not torch
        imports.append(took)
        if took < 0.5:
            break
        time.sleep(0.5)
    assert min(imports) < 0.5
