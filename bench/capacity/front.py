"""All fronts and the recorder of one cell, as a process of its own, for `abhinaya bench cells`.

It writes `ready`. For each line that it reads, the time at which to begin, it measures, and writes
the result as a line of JSON.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path

import msgspec

from abhinaya.bench.null_nodes import NEEDS
from abhinaya.bench.transport import HubCarrier, Meter
from abhinaya.stream.wire.keys import Keys

WARM_S = 1.0


class Passed(msgspec.Struct, frozen=True):
    """What passed through one cell."""

    segments: int
    lost: int
    seconds: float

    @property
    def per_s(self) -> float:
        """Return the segments a second."""
        return self.segments / self.seconds


def main(endpoint: str, directory: str, name: str, streams: str, seconds: str) -> None:
    """Measure the most that a cell passes."""
    keys = Keys(Path(directory), name)
    with closing(HubCarrier(endpoint, int(streams), NEEDS.keys(), keys=keys)) as carrier:
        meter = Meter(carrier)
        meter.measure(WARM_S, None)
        print("ready", flush=True)
        for line in sys.stdin:
            time.sleep(max(0.0, float(line) - time.monotonic()))
            meter.measure(float(seconds), None)
            passed = len(meter.latencies_ms)
            found = Passed(passed, meter.lost, max(1e-9, meter.last - meter.begun))
            print(msgspec.json.encode(found).decode(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
