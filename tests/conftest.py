"""How the suite is spread over two workers.

`make test` runs pytest with `--dist loadgroup --no-loadscope-reorder`: files with many tests begin,
each stays on one worker, so that what its tests share is made once, and the tests that start
processes form the last group. They run one after the other when nothing else does: they measure
time.
"""

from __future__ import annotations

import logging
import os
import wave
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

# Two workers share two cores, and small matrices gain nothing from more threads: training tests
# take a tenth of the time. Read when torch and numpy are imported, so nothing here does that.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def file(item: pytest.Item) -> str:
        return item.nodeid.partition("::")[0]

    def runs_processes(item: pytest.Item) -> bool:
        return item.get_closest_marker("processes") is not None

    size = Counter(map(file, items))
    for item in items:
        item.add_marker(
            pytest.mark.xdist_group("processes" if runs_processes(item) else file(item))
        )
    items.sort(key=lambda item: (runs_processes(item), -size[file(item)]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Make captured output encodable: a worker cannot send lone surrogates to its master."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """Close the log that a command has opened in this process: pytest listens at the root."""
    log = logging.getLogger("abhinaya")
    handlers, level, propagate = log.handlers[:], log.level, log.propagate
    yield
    log.handlers[:], log.propagate = handlers, propagate
    log.setLevel(level)


SHORT_S = 25


@pytest.fixture(scope="session")
def short_call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the beginning of the demo call, both parties, where what is said does not matter."""
    import numpy as np

    from abhinaya.bench.demo import CALL
    from abhinaya.stream.clock import SAMPLE_RATE
    from abhinaya.stream.sources import InputConfig, open_source

    chunks = open_source(InputConfig(str(CALL), channels="split")).chunks()
    samples = np.concatenate([chunk.samples for chunk in chunks])[: SHORT_S * SAMPLE_RATE]
    path = tmp_path_factory.mktemp("short") / "call.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path
