"""Coverage-guided fuzzing of decoder and broker.

    python tests/fuzz/fuzz_hub.py NEW tests/fuzz/corpus -max_total_time=600

New inputs that reach new code are written to the folder NEW; the flags are libFuzzer's. An input
that broke a law is kept as crash-*: copy it to `corpus`.
"""

from __future__ import annotations

import logging
import random
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

with atheris.instrument_imports(include=["abhinaya.stream.hub", "abhinaya.stream.run.recorder"]):
    import fakes
    import hostile
    import msgspec

from abhinaya.stream.wire.codec import Encoder

PLAIN = [msgspec.msgpack.decode(Encoder().encode(m)[0]) for m in fakes.one_of_each()]


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Return `data` with bytes changed, or with a message added, removed or moved."""
    rng = random.Random(seed)
    if rng.random() < 0.3:
        return atheris.Mutate(data, max_size)
    record = hostile.record(rng.randrange(12), hostile.mutated(rng, PLAIN), rng.randrange(4))
    records = list(split(data))
    place = rng.randrange(len(records) + 1)
    if rng.random() < 0.7 or not records:
        records.insert(place, record)
    else:
        del records[min(place, len(records) - 1)]
    return b"".join(records)[:max_size]


def split(data: bytes):
    at = 0
    while at + hostile.RECORD.size <= len(data):
        length = hostile.RECORD.unpack_from(data, at)[2] + hostile.RECORD.size
        yield data[at : at + length]
        at += length


def main() -> None:
    """Fuzz until the time given by -max_total_time is over."""
    logging.disable(logging.CRITICAL)
    arguments = [*sys.argv, "-max_len=20000", "-timeout=20", "-rss_limit_mb=2048"]
    atheris.Setup(arguments, lambda data: hostile.World().feed(data), custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
