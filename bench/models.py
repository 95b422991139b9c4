"""`abhinaya bench models`: speed of the voters by batch size and length of the segments.

    abhinaya bench models                                     reduced sizes, on any machine
    abhinaya bench models --scale real --voters S2            the parts of the real network
    abhinaya bench models --scale real --whole --voters S1    WavLM-large: two CPU cores are enough
    abhinaya bench models --scale real --voters S1,S2,T2,ST1,S2+ST1+T2 --dtype bfloat16

Weights are random, so nothing is downloaded. S2+ST1+T2 runs the three one after the other on the
same segments; S2 and ST1 share one run of the encoders. T1 runs on a server and is not measured.
At real sizes the first table has the parts of each voter (`real_size.py`); the others need the
whole weights, and follow on a GPU or with --whole.

The last table compares six segments of 2 to 10 s in one batch with one at a time, on a CPU in
processor time; S1 also with transformers' own pipeline on the same WavLM (above 1, S1 is faster).
Padding is the share of wasted work: a batch is padded to its longest segment, except S1's on a CPU,
and SALMONN's audio to 30 s.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers import Wav2Vec2FeatureExtractor, WavLMForSequenceClassification, pipeline

from abhinaya.bench.random_voters import Batch, RandomVoter, RandomVoters, waves
from abhinaya.bench.real_size import parts
from abhinaya.models.command_line import Parser
from abhinaya.models.inference import Place, place

VOTERS: Final = ("S1", "S2", "T2", "ST1", "S2+ST1+T2")
BATCHES: Final = (1, 4, 16, 64)
LENGTHS_S: Final = (1.0, 3.0, 5.0, 10.0)
Figure = tuple[str, dict[str, Any]]
PARTS_S: Final = 10.0
"""Length of the clip that the parts are measured with."""
MIXED_S: Final = (2.1, 9.7, 4.4, 6.3, 3.2, 7.9)


def measure(voter: RandomVoter, asked: argparse.Namespace, where: Place) -> Iterator[Figure]:
    """Measure a voter at every length and batch size, and with mixed lengths.

    Times are of a whole batch. Yields `speed` and the figures, or `mixed` and the best times.
    """
    # The noise is new for each voter, because the shared encoders cache features.
    own = zlib.crc32(voter.name.encode())
    for length_s in asked.lengths:
        for batch in asked.batches:
            some = [waves([length_s] * batch, [own, n, batch]) for n in range(asked.repeats + 1)]
            times = [_time(voter.run, noise) for noise in some][1:]  # the first has one-time costs
            p50, p95 = (float(value) for value in np.percentile(times, [50, 95]))
            figures = {"p50_ms": 1000 * p50, "p95_ms": 1000 * p95, "segments_a_second": batch / p50}
            yield "speed", {"voter": voter.name, "length_s": length_s, "batch": batch, **figures}
    ways: dict[str, Callable[[Batch], Any]] = {
        "together": voter.run,
        "one_by_one": lambda batch: [voter.run([wave]) for wave in batch],
    }
    if voter.name == "S1":
        theirs = _pipeline(voter.parts["WavLM"], where)
        ways["theirs"] = lambda batch: theirs(list(batch), batch_size=len(batch))
        ways["theirs_one_by_one"] = lambda batch: theirs(list(batch))
    # what else runs on a CPU costs this process no processor seconds
    clock = time.process_time if where.device.type == "cpu" else time.perf_counter
    least = dict.fromkeys(ways, float("inf"))
    for n in range(asked.repeats):
        for index, (way, run) in enumerate(ways.items()):  # in turns: other load meets all alike
            took_s = _time(run, waves(MIXED_S, [own, 0, n, index]), clock)
            least[way] = min(least[way], took_s)
    times_ms = {f"{way}_ms": 1000 * took_s for way, took_s in least.items()}
    padding = 1 - sum(MIXED_S) / ((voter.window_s or max(MIXED_S)) * len(MIXED_S))
    yield "mixed", {"voter": voter.name, "padding": padding, **times_ms}


def _pipeline(wavlm: Any, where: Place) -> Any:
    """Return transformers' classifier of audio with this WavLM."""
    model: Any = WavLMForSequenceClassification(wavlm.config)
    model.wavlm = wavlm
    ear: Any = Wav2Vec2FeatureExtractor
    make: Any = pipeline
    return make(
        "audio-classification",
        model=model.to(where.dtype).eval(),
        feature_extractor=ear(return_attention_mask=True),
        device=where.device,
    )


def _time(
    run: Callable[[Batch], Any], batch: Batch, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the seconds that a batch takes, including its work on the GPU."""
    with torch.inference_mode():
        begun = clock()
        run(batch)  # the result is on the CPU, so the GPU has finished
        return clock() - begun


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print tables, and write JSON with --json."""
    asked = _parser().parse_args(argv)
    where = place(asked.device, asked.dtype)
    voters = RandomVoters(asked.scale, where, asked.merge)
    figures: list[Figure] = []
    for name in asked.voters:
        found: Iterator[Figure] = iter(())
        if asked.scale == "real":
            found = (("parts", part) for part in parts(name, PARTS_S, where, asked.repeats))
        if asked.scale == "tiny" or asked.whole or where.device.type == "cuda":
            found = chain(found, measure(voters.build(name), asked, where))
        for figure in found:
            figures.append(figure)
            if asked.lines:
                print(json.dumps(dict([figure])), flush=True)
    if not asked.lines:
        _report(figures, asked, where)
    return 0


def _report(figures: Sequence[Figure], asked: argparse.Namespace, where: Place) -> None:
    # Imported here: a GPU machine may lack its packages.
    from abhinaya.bench.report import Report, publish, settings_of, table_of

    kinds = ("parts", "speed", "mixed")
    sizes, speeds, mixed = ([f for kind, f in figures if kind == of] for of in kinds)
    dtype, threads = str(where.dtype).removeprefix("torch."), torch.get_num_threads()
    settings = settings_of(asked) | {"device": str(where.device), "dtype": dtype}
    tables = [
        table_of(
            f"real size, a clip of {PARTS_S:g} s; time estimated from one layer of each part",
            {
                "voter": "{0[voter]}",
                "part": "{0[part]}",
                "parameters": "{0[parameters]:,}",
                "MB": "{0[memory_mb]:,.0f}",
                "GFLOP": "{0[gflop]:,.1f}",
                "s": "{0[estimate_s]:.3f}",
            },
            sizes,
        ),
        table_of(
            f"{asked.scale} sizes, {dtype} on {where.device}, {threads} threads",
            {
                "voter": "{0[voter]}",
                "length": "{0[length_s]:g} s",
                "batch": "{0[batch]}",
                "p50 ms": "{0[p50_ms]:.1f}",
                "p95 ms": "{0[p95_ms]:.1f}",
                "seg/s": "{0[segments_a_second]:.1f}",
            },
            speeds,
        ),
        table_of(
            f"{len(MIXED_S)} segments of mixed lengths, 2 to 10 s",
            {
                "voter": "{0[voter]}",
                "together ms": "{0[together_ms]:.1f}",
                "one by one ms": "{0[one_by_one_ms]:.1f}",
                "gain": lambda m: _ratio(m, "one_by_one_ms", "together_ms"),
                "padding": "{0[padding]:.0%}",
                "transformers": lambda m: _ratio(m, "theirs_ms", "together_ms"),
                "and one by one": lambda m: _ratio(m, "theirs_one_by_one_ms", "one_by_one_ms"),
            },
            mixed,
        ),
    ]
    found = {"parts": sizes, "speeds": speeds, "mixed": mixed}
    shown = [made for made in tables if made.row_count]
    publish(Report("models", settings, found), shown, asked.json)


def _ratio(figures: Mapping[str, Any], over: str, under: str) -> str:
    return f"{figures[over] / figures[under]:.2f} x" if over in figures else "-"


def _parser() -> Parser:
    parser = Parser("abhinaya bench models", __doc__)
    add = parser.add_argument
    add("--json", type=Path, metavar="FILE", help="write figures and machine here")
    add("--lines", action="store_true", help="each figure as a line of JSON, no tables")
    add("--scale", choices=("tiny", "real"), default="tiny")
    add("--whole", action="store_true", help="real sizes: run whole voters also without a GPU")
    add("--voters", type=_listed(_voter), default=VOTERS, help="with commas")
    add("--batches", type=_listed(_within(int, 1, 4096)), default=BATCHES)
    add("--lengths", type=_listed(_within(float, 0.2, 30)), default=LENGTHS_S, help="in seconds")
    add("--repeats", type=_within(int, 1, 1000), default=5)
    add("--device", default="auto")
    add("--dtype", default="auto")
    add("--merge", action="store_true", help="add LoRA to the weights")
    return parser


def _listed(one: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    return lambda text: tuple(one(part) for part in text.split(","))


def _voter(text: str) -> str:
    if not set(text.split("+")) <= {"S1", "S2", "T2", "ST1"}:
        raise argparse.ArgumentTypeError(f"{text!r}: use S1, S2, T2, ST1, or some with +")
    return text


def _within(kind: Callable[[str], float], least: float, most: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        if not least <= (value := kind(text)) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not between {least} and {most}")
        return value

    return read


if __name__ == "__main__":  # for machines without the command line's packages
    sys.exit(main())
