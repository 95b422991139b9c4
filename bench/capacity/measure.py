"""Measures on this machine what a plan needs, in a minute or two: `abhinaya plan --measure FILE`.

Processor time is counted, not time on the clock, so that other load on the machine disturbs little.
GPUs are not measured: their figures stay.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from abhinaya.bench import ingest
from abhinaya.bench.capacity.figures import Cost, Figures, Gateway, Hub, Speech
from abhinaya.bench.capacity.lab import cell
from abhinaya.bench.clips import items
from abhinaya.bench.demo import CALL
from abhinaya.bench.monitored import MAIN, resident_mib
from abhinaya.bench.null_nodes import NEEDS
from abhinaya.bench.report import facts, line
from abhinaya.bench.transport import SEGMENT_SAMPLES, HubCarrier, Meter
from abhinaya.stream.clock import to_seconds
from abhinaya.stream.errors import ModelError, ProcessError, SourceError
from abhinaya.stream.front.listener import Listener
from abhinaya.stream.node.worker import load_node
from abhinaya.stream.settings.config import Config, VadConfig, guests, workers_of
from abhinaya.stream.sources import InputConfig, open_source
from abhinaya.stream.wire.messages import Failed, Segment, Task

HUB_S: Final = 4.0
"""Length of each measurement of a hub."""
HUB: Final = "hub"
PUSH: Final = "push"
CALLS: Final = (4, 44)
CALLS_S: Final = 12.0
QUANTILES: Final = 21
MIB: Final = 2**20

Say = Callable[[str], None]


def measured(figures: Figures, config: Config, recordings: Sequence[Path], say: Say) -> Figures:
    """Return the figures with what this machine measures; the models are those of the profile.

    `recordings`: calls with a channel for each party; none: the figures of speech stay.

    Raises:
        SourceError: a recording cannot be read, or none has speech.

    """
    machine = line(facts())
    source = f"abhinaya plan --measure, {machine}, load {os.getloadavg()[0]:.1f}, "
    source += time.strftime("%Y-%m-%d")
    speech = figures.speech
    if recordings:
        say(f"the speech of {len(recordings)} recordings")
        speech = replace(speech_of(recordings, config.vad), channels=speech.channels)
    say("a hub, with null nodes over TCP with CURVE")
    hub = replace(_hub(figures.hub), source=source)
    say("pushed calls, with null nodes")
    hub, gateway = _calls(hub, replace(figures.gateway, source=source))
    models = dict(figures.models)
    for name, cost in _models(figures, config, say):
        models[name] = replace(cost, source=source)
    return replace(figures, speech=speech, hub=hub, gateway=gateway, models=models)


def speech_of(recordings: Sequence[Path], vad: VadConfig) -> Speech:
    """Return how often and how long the channels of recordings speak, by the monitor's segmenter.

    Raises:
        SourceError: a recording cannot be read, or none has speech.

    """
    lengths: list[float] = []
    pauses: list[float] = []
    heard_s = 0.0
    for path in recordings:
        with closing(open_source(InputConfig(str(path), channels="split"))) as source:
            chunks = [chunk.samples for chunk in source.chunks()]
        listener = Listener(vad, source.channels)
        pieces = [piece for chunk in chunks for piece in listener.feed(chunk)] + listener.finish()
        end_s = to_seconds(sum(map(len, chunks)))
        heard_s += end_s * source.channels
        for channel in range(source.channels):
            spans = [(to_seconds(p.start), to_seconds(p.end)) for c, p in pieces if c == channel]
            lengths += [end - start for start, end in spans]
            pauses += [later[0] - before[1] for before, later in itertools.pairwise(spans)]
            # as if the recording went on from its beginning
            pauses += [spans[0][0] + end_s - spans[-1][1]] if spans else []
    if not lengths:
        raise SourceError("the recordings", "have no speech")
    names = ", ".join(path.stem for path in recordings)
    about = f"abhinaya plan --measure --speech: {heard_s:.0f} s of channels of {names}"
    return Speech(about, _quantiles(lengths), _quantiles(pauses), 1)


def _quantiles(values: list[float]) -> tuple[float, ...]:
    found = np.quantile(values, np.linspace(0, 1, QUANTILES))
    return tuple(round(float(value), 2) for value in found)


def _hub(before: Hub) -> Hub:
    """Return what a hub uses: with five tasks for each segment, and with one."""
    one, one_io_s = _passed(("V1",))
    all_five, io_s = _passed(tuple(NEEDS))
    task_s = (all_five - one) / (len(NEEDS) - 1)
    return replace(
        before,
        segment_s=rounded(max(1e-6, one - task_s)),
        task_s=rounded(task_s),
        io_s_per_mib=rounded((io_s + one_io_s) / (2 * SEGMENT_SAMPLES / MIB * (len(NEEDS) + 3))),
    )


def _passed(services: tuple[str, ...]) -> tuple[float, float]:
    """Return the seconds of loop and I/O thread for a segment, at the most that the hub passes."""
    with (
        cell(services) as lab,
        closing(HubCarrier(lab.endpoint, 16, frozenset(services), keys=lab.keys)) as carrier,
    ):
        meter = Meter(carrier)
        meter.measure(HUB_S / 4, None)
        before = lab.hub_seconds()
        meter.measure(HUB_S, None)
        loop_s, io_s = (b - a for a, b in zip(before, lab.hub_seconds(), strict=True))
        passed = max(1, meter.sent - meter.lost)
        return loop_s / passed, io_s / passed


def _calls(hub: Hub, gateway: Gateway) -> tuple[Hub, Gateway]:
    """Return what a call costs more, and what the processes take without calls."""
    few, many = map(_pushed, CALLS)
    more = many.calls - few.calls

    def cores(name: str) -> float:
        spent = many.cpu[name] * many.calls - few.cpu[name] * few.calls
        return rounded(max(0.0, spent / more))

    each_mib = {n: max(0.0, (many.mib[n] - few.mib[n]) / more) for n in (MAIN, PUSH, HUB)}
    empty_mib = {n: rounded(few.mib[n] - few.calls * mib) for n, mib in each_mib.items()}
    stream_kib = rounded(1024 * each_mib[HUB] / len(ingest.PARTIES))
    return replace(hub, mib=empty_mib[HUB], stream_kib=stream_kib), replace(
        gateway,
        main_cores=cores(MAIN),
        push_cores=cores(PUSH),
        main_mib=empty_mib[MAIN],
        push_mib=empty_mib[PUSH],
        call_mib=rounded(each_mib[MAIN] + each_mib[PUSH]),
    )


def _pushed(calls: int) -> ingest.Ingest:
    """Run `abhinaya bench ingest` in a process of its own: it ends itself by a signal.

    Raises:
        ProcessError: it failed.

    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "ingest.json"
        options = ("--calls", str(calls), "--seconds", str(CALLS_S), "--json", str(report))
        begin = "import sys; from abhinaya.bench.ingest import main; sys.exit(main())"
        command = [sys.executable, "-P", "-c", begin, *options]
        # 1: it lost something, which a busy machine does; the processor time counts all the same
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if not report.exists():
            last = (done.stderr.splitlines() or [""])[-1]
            raise ProcessError("abhinaya bench ingest", f"ended with {done.returncode}", last)
        return msgspec.convert(json.loads(report.read_bytes())["figures"]["run"], ingest.Ingest)


def _models(figures: Figures, config: Config, say: Say) -> Iterator[tuple[str, Cost]]:
    """Yield the processor time of the models that the figures count on processors."""
    for service, worker in workers_of(config).items():
        names = (service, *guests(config.voters, service))
        costs = {n: figures.cost(n, workers_of(config)[n]) for n in names if not worker.host}
        if not costs or not all(cost.cpu_s for _, cost in costs.values()):
            continue
        say(f"the models of {' + '.join(names)}")
        ready, adapter = load_node(config, service, service, "0")
        spent, states = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)
        speech = [item for item in items(CALL, config.vad) if isinstance(item, Segment)]
        for segment in speech:
            task = Task(
                stream="measured",
                sequence=segment.sequence,
                services=tuple(s.name for s in ready.gives),
                start=segment.start,
                end=segment.end,
                samples=segment.samples,
            )
            before = time.process_time()
            for model, answers in zip(adapter.gives, adapter.run(0.0, [(0.0, task)]), strict=True):
                now = time.process_time()
                spent[model.name] += now - before
                if broken := [a.reason for a in answers if isinstance(a, Failed) and a.retry]:
                    raise ModelError(model.name, broken[0])
                states[model.name] = max(len(getattr(a, "state", b"")) for a in answers)
                before = now
        ratio = figures.speech.mean_s * len(speech)
        ratio /= sum(to_seconds(s.end - s.start) for s in speech)
        mib = resident_mib(os.getpid())  # of a process that has all of them
        for place, (service_name, (name, cost)) in enumerate(costs.items()):
            cpu_s = rounded(spent[service_name] / len(speech) * ratio)
            state_kib = rounded(states[service_name] / 1024)
            yield (
                name,
                replace(cost, cpu_s=cpu_s, state_kib=state_kib, mib=0 if place else rounded(mib)),
            )


def rounded(value: float) -> float:
    """Return a value with three digits."""
    return float(f"{value:.3g}")
