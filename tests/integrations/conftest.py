"""A whole `abhinaya serve`, for examples in frameworks of others; `make examples` runs these tests.

They need an environment of their own: pipecat wants older packages than ours are tested with.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import av
import httpx2
import numpy as np
import pytest
from places import ROOT

from abhinaya.client import Client

collect_ignore = [
    f"test_{name}.py" for name in ("pipecat", "livekit") if not importlib.util.find_spec(name)
]
RATE = 16_000
CHUNK = 320
"""Samples of a frame: 20 ms."""


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """A gateway that is ready to judge speech."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as out:
            program = str(Path(sys.executable).with_name("abhinaya"))
            process = subprocess.Popen(
                [program, "serve", "--port", "0", "--data", folder], stdout=out, stderr=out
            )
        try:
            deadline = time.monotonic() + 90
            while not (found := re.search(r"console: (\S+)/", log.read_text())) or not _ready(
                found[1]
            ):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield Client(found[1], (Path(folder) / "token").read_text().strip())
        finally:
            process.terminate()
            process.wait(20)


def _ready(address: str) -> bool:
    try:
        return httpx2.get(f"{address}/readyz").status_code == 200
    except httpx2.HTTPError:
        return False


@pytest.fixture(scope="session")
def speech() -> list[bytes]:
    """The first seconds of a customer, in frames of 20 ms, and silence."""
    call = ROOT / "bench" / "demo" / "call.opus"
    with av.open(str(call)) as container:
        resampler = av.AudioResampler("s16p", "stereo", RATE)
        parts = [
            np.concatenate([out.to_ndarray()[1] for out in resampler.resample(frame)])
            for frame in container.decode(audio=0)
        ]
    samples = np.concatenate(parts)
    begin = int(np.flatnonzero(np.abs(samples) > 500)[0])
    samples = np.append(samples[begin : begin + 4 * RATE], np.zeros(2 * RATE, np.int16))
    data = samples.astype("<i2").tobytes()
    return [data[i : i + 2 * CHUNK] for i in range(0, len(data), 2 * CHUNK)]
