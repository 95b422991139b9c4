"""Runs live streams for a long time among kills, freezes and cuts; reports losses and growth.

    abhinaya bench soak --minutes 60 --streams 4 --short 200

Every stream plays the given files one after another; short streams come and go beside them. Their
segments are computed beforehand; the run must report exactly these segments, each once, as a
verdict or as a gap with its reason. Hub and nodes are killed or hung (SIGSTOP) in random order,
each once before any a second time. A cut stops the hub for 3 s, so that all others lose it. Exits
with 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
from rich.table import Table

from abhinaya.bench.clips import Span, audio_under, compose, spans
from abhinaya.bench.demo import CALL
from abhinaya.bench.monitored import MAIN, Usage, Watcher, add_profile, live, play, profile_of
from abhinaya.bench.report import Report, parser, publish, settings_of, table
from abhinaya.stream.errors import AbhinayaError, ConfigError
from abhinaya.stream.run.monitor import HUB
from abhinaya.stream.run.supervisor import Supervisor
from abhinaya.stream.sources.base import InputConfig
from abhinaya.stream.wire.child import Stage
from abhinaya.stream.wire.messages import Event, Gap, NodeUp, Status, StreamEnded, Verdict

Kind = Literal["kill", "hang", "cut"]
SIGNALS: Final[Mapping[Kind, signal.Signals]] = {
    "kill": signal.SIGKILL,
    "hang": signal.SIGSTOP,
    "cut": signal.SIGSTOP,
}
CUT_S: Final = 3.0
SHORT_S: Final = 4.0
E2E: Final = Path("../shared/data/e2e")
MAX_SETTLE_S: Final = 60.0
"""Maximum warm-up of a process, which is left out of the slope of its memory."""


@dataclass(slots=True)
class Fault:
    """A process that was killed, hung or cut off, and its recovery."""

    at_s: float
    """Seconds since the first verdict."""
    kind: Kind
    node: str
    ready_s: float | None = None
    """Seconds from the signal until a new process was ready; None if this did not happen."""


class FaultInjector(Watcher):
    """Kills, hangs and cuts off processes in random order, until `until_s`."""

    def __init__(self, every_s: Mapping[Kind, float], until_s: float, seed: int = 0) -> None:
        self._every = {kind: every for kind, every in every_s.items() if every}
        self._next: dict[Kind, float] = {}
        self._until_s, self._begun, self._under_way = until_s, 0.0, False
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._bag: list[str] = []
        self._latest: Status | None = None
        self._hub = ""
        self._up: list[str] = []
        self.faults: list[Fault] = []

    def event(self, event: Event, now_unix_s: float) -> None:
        """Record nodes that are up, and the latest status."""
        if isinstance(event, NodeUp):
            self._up.append(event.node)
        elif isinstance(event, Status):
            self._up += [HUB] if event.hub != self._hub else []
            self._latest, self._hub = event, event.hub
        elif isinstance(event, Verdict):
            self._under_way = True

    def look(self, processes: Supervisor, now: float) -> None:
        """Kill or hang a node if it is time; mark the faults that have recovered."""
        if not self._under_way:
            return
        if not self._begun:
            self._begun = now
            self._next = {kind: now + every for kind, every in self._every.items()}
        for fault in self.faults:
            if fault.ready_s is None and fault.node in self._up:
                fault.ready_s = now - self._begun - fault.at_s
        self._up.clear()
        for kind, due in self._next.items():
            if not due <= now < self._begun + self._until_s or not self._is_quiet(processes):
                continue
            node = HUB if kind == "cut" else self._victim()
            if (pid := processes.pid(node)) is not None:
                self._next[kind] = due + self._every[kind]
                os.kill(pid, SIGNALS[kind])
                fault = Fault(now - self._begun, kind, node)
                self.faults.append(fault)
                if kind == "cut":
                    threading.Timer(CUT_S, self._restore, (pid, fault)).start()

    def _restore(self, pid: int, fault: Fault) -> None:
        with contextlib.suppress(ProcessLookupError):  # somebody has killed it meanwhile
            os.kill(pid, signal.SIGCONT)
        fault.ready_s = CUT_S

    def _is_quiet(self, processes: Supervisor) -> bool:
        """Whether all processes are ready, so that faults do not overlap."""
        stages = processes.stages()
        nodes = [load.node for load in self._latest.nodes] if self._latest else []
        healed = all(fault.ready_s is not None for fault in self.faults)
        ready = all(stages.get(name) is Stage.READY for name in (HUB, *nodes))
        return healed and bool(nodes) and ready

    def _victim(self) -> str:
        if not self._bag and self._latest:
            self._bag = sorted({HUB, *(load.node for load in self._latest.nodes)})
            self._random.shuffle(self._bag)
        return self._bag.pop()


class ShortStreams:
    """A supply of short inputs, one after the other; a file is read as fast as it goes."""

    def __init__(self, paths: Mapping[str, Path], every_s: float) -> None:
        self._left = list(paths.items())
        self._every_s = every_s
        self._next = 0.0
        self._open = set(paths)

    @property
    def over(self) -> bool:
        """Whether every input has ended."""
        return not self._open

    def start(self) -> None:
        """Start the clock."""
        self._next = time.monotonic()

    def take(self) -> list[tuple[str, InputConfig]]:
        """Return the next input, if it is due."""
        if not self._left or time.monotonic() < self._next:
            return []
        self._next += self._every_s
        name, path = self._left.pop(0)
        return [(name, InputConfig(str(path)))]

    def news(self) -> list[str]:
        """Return nothing."""
        return []

    def faults(self) -> list[AbhinayaError]:
        """Return nothing: the account finds what is lost."""
        return []

    def cancelled(self) -> list[str]:
        """Return nothing: no input is cancelled."""
        return []

    def ended(self, name: str, reason: str) -> None:
        """Note that an input is finished; it may be one of the long ones."""
        self._open.discard(name)


class Reported(NamedTuple):
    """The outcome of a segment. Whole verdicts would make the process that is measured grow."""

    sequence: int
    start: int
    end: int
    verdict: bool
    """False for a gap."""
    missing: bool
    """Whether a vote is missing."""


class Account(Watcher):
    """Compares the reported segments of each stream with the expected ones."""

    def __init__(self, expected: Mapping[str, Sequence[Span]]) -> None:
        self._expected = expected
        self.outcomes: dict[str, list[Reported]] = {stream: [] for stream in expected}
        """First outcome of each segment, in the order of arrival."""
        self._ended: dict[str, int] = {}

    def event(self, event: Event, now_unix_s: float) -> None:
        """Record the outcome of a segment, without later revisions."""
        if isinstance(event, StreamEnded):
            self._ended[event.stream] = event.sequence
        elif isinstance(event, Gap) or (isinstance(event, Verdict) and not event.revision):
            verdict = isinstance(event, Verdict)
            missing = isinstance(event, Verdict) and bool(event.missing)
            reported = Reported(event.sequence, event.start, event.end, verdict, missing)
            self.outcomes[event.stream].append(reported)

    def losses(self) -> list[str]:
        """Return a line for everything that was lost or reported twice."""
        return [loss for stream in self._expected for loss in self._losses(stream)]

    def _losses(self, stream: str) -> Iterable[str]:
        outcomes, expected = self.outcomes[stream], self._expected[stream]
        sequences = [event.sequence for event in outcomes]
        spoken = [(event.start, event.end) for event in outcomes]
        ended = self._ended.get(stream)
        if sequences != list(range(len(sequences))):
            yield f"{stream}: sequence numbers have holes or come twice: {sequences}"
        if ended is None:
            yield f"{stream}: its end was never reported"
        elif ended != len(sequences):
            yield f"{stream}: ended after {ended} segments, {len(sequences)} were reported"
        if lost := sorted(set(expected) - set(spoken)):
            yield f"{stream}: {len(lost)} of {len(expected)} segments lost, the first {lost[0]}"
        if len(spoken) > len(expected):
            yield f"{stream}: {len(spoken)} segments were reported of {len(expected)}"


@dataclass(frozen=True, slots=True)
class Slope:
    """Growth of memory in MiB per hour, with its 95 % interval."""

    value: float
    low: float
    high: float


def slope_per_hour(lives: Iterable[Sequence[tuple[float, float]]], settle_s: float) -> Slope | None:
    """Fit one slope to the memory of successive processes, each with its own level.

    `lives` are [(seconds, MiB)] of each process of the same name; the first `settle_s` of each are
    left out. The slope is by least squares; None if no process lived long enough. Samples that
    follow each other are alike, so the interval is widened by the correlation of neighbouring
    residuals.
    """
    centred = []
    for life in lives:
        settled = np.array([sample for sample in life if sample[0] - life[0][0] >= settle_s])
        if len(settled) >= 3:
            centred.append(settled - settled.mean(axis=0))
    if not centred:
        return None
    seconds, mib = np.concatenate(centred).T
    slope = float(seconds @ mib) / float(seconds @ seconds)
    rest = mib - slope * seconds
    spread = float(rest @ rest)
    alike = max(0.0, float(rest[1:] @ rest[:-1]) / spread) if spread else 0.0
    variance = spread / max(1, len(rest) - 1 - len(centred)) / float(seconds @ seconds)
    error = 1.96 * math.sqrt(variance * (1 + alike) / max(1e-6, 1 - alike))
    return Slope(*(3600 * value for value in (slope, slope - error, slope + error)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a soak."""

    minutes: float
    segments: int
    verdicts: int
    gaps: int
    incomplete: int
    """Number of verdicts with a missing vote."""
    losses: tuple[str, ...]
    faults: tuple[Fault, ...]
    peak_mib: dict[str, float]
    slope_mib_per_hour: dict[str, Slope | None]
    others: float

    @property
    def lost(self) -> bool:
        """Whether a segment was lost, or a service did not recover."""
        return bool(self.losses) or any(fault.ready_s is None for fault in self.faults)


def soak(options: argparse.Namespace) -> Outcome:
    """Run a soak; return its result."""
    config = profile_of(options)
    seconds = 60 * options.minutes
    sources = _sources(options.files)
    # leave time to recover after the last fault
    until_s = seconds - min(30.0, 0.4 * seconds)
    with tempfile.TemporaryDirectory(prefix="abhinaya-soak-") as folder:
        recordings: dict[str, Path] = {}
        for number in range(options.streams):
            path = recordings[f"stream-{number}"] = Path(folder) / f"{number}.wav"
            compose(sources, seconds, number * len(sources) // options.streams, path)
        kinds = [Path(folder) / f"short-{number}.wav" for number in range(min(8, options.short))]
        for number, path in enumerate(kinds):
            compose(sources, SHORT_S, number, path)
        short = {f"short-{n}": kinds[n % len(kinds)] for n in range(options.short)}
        found = {path: spans(path, config.vad) for path in [*recordings.values(), *kinds]}
        account = Account({name: found[path] for name, path in (recordings | short).items()})
        every_s: dict[Kind, float] = {
            "kill": options.kill_every,
            "hang": options.hang_every,
            "cut": options.cut_every,
        }
        injector = FaultInjector(every_s, until_s, options.seed)
        # few samples, so that storing them does not count as growth
        usage = Usage(max(1.0, seconds / 360))
        supply = ShortStreams(short, until_s / max(1, options.short)) if short else None
        play(config, live(recordings), [account, injector, usage], supply)
    outcomes = [event for each in account.outcomes.values() for event in each]
    verdicts = [event for event in outcomes if event.verdict]
    lives: dict[str, list[Sequence[tuple[float, float]]]] = {}
    for (name, _), samples in usage.samples.items():
        lives.setdefault(name, []).append(samples)
    settle_s = min(MAX_SETTLE_S, seconds / 10)
    return Outcome(
        minutes=options.minutes,
        segments=len(outcomes),
        verdicts=len(verdicts),
        gaps=len(outcomes) - len(verdicts),
        incomplete=sum(verdict.missing for verdict in verdicts),
        losses=tuple(account.losses()),
        faults=tuple(injector.faults),
        peak_mib=usage.peaks(),
        slope_mib_per_hour={name: slope_per_hour(lives[name], settle_s) for name in lives},
        others=usage.others,
    )


def _sources(files: Sequence[Path]) -> list[Path]:
    if not files:
        return audio_under(E2E) or [CALL]
    found = [a for path in files for a in (audio_under(path) if path.is_dir() else [path])]
    if not found:
        raise ConfigError(" ".join(map(str, files)), "hold no audio", "name files, or a folder")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run a soak and print the result; return 1 if anything was lost."""
    made = parser("soak", __doc__)
    made.add_argument("files", nargs="*", type=Path, help=f"or folders ({E2E} if there, or a demo)")
    for flag, default, text in (
        ("minutes", 30.0, "length of the run"),
        ("streams", 2, "number of streams"),
        ("kill-every", 120.0, "seconds between two kills, 0: never"),
        ("hang-every", 300.0, "seconds between two hangs, 0: never"),
        ("cut-every", 400.0, "seconds between two cuts, 0: never"),
        ("short", 0, "number of short streams beside the long ones"),
        ("seed", 0, "seed of the order of nodes"),
    ):
        about = f"{text} (%(default)g)"
        made.add_argument(f"--{flag}", type=type(default), default=default, help=about)
    add_profile(made)
    options = made.parse_args(argv)
    outcome = soak(options)
    figures = asdict(outcome) | {"lost": outcome.lost}
    publish(Report("soak", settings_of(options), figures), _tables(outcome), options.json)
    for loss in outcome.losses:
        print(f"LOST: {loss}")
    print(
        f"{'LOST SOMETHING' if outcome.lost else 'nothing lost'}: {outcome.segments} segments in "
        f"{outcome.minutes:g} min, {outcome.verdicts} verdicts ({outcome.incomplete} without some "
        f"vote), {outcome.gaps} gaps; {', '.join(_faults(outcome))}"
    )
    return 1 if outcome.lost else 0


def _faults(outcome: Outcome) -> Iterable[str]:
    for kind in SIGNALS:
        recoveries = [fault.ready_s or 0.0 for fault in outcome.faults if fault.kind == kind]
        yield f"{len(recoveries)} {kind}s, longest recovery {max(recoveries, default=0.0):.1f} s"


def _shown(slope: Slope) -> str:
    return f"{slope.value:+.1f} ({slope.low:+.1f} to {slope.high:+.1f})"


def _tables(outcome: Outcome) -> list[Table]:
    faults = table(
        "Processes killed, hung and cut off: seconds until they were ready again",
        ("process", "at s", "how", "ready s"),
        [
            (b.node, f"{b.at_s:.0f}", b.kind, "never" if b.ready_s is None else f"{b.ready_s:.1f}")
            for b in outcome.faults
        ],
    )
    measured = {n: slope for n, slope in outcome.slope_mib_per_hour.items() if slope}
    order = sorted(measured, key=lambda name: (name not in (MAIN, HUB), name))
    short = len(outcome.peak_mib) - len(measured)
    memory = table(
        f"Resident memory, without {short} processes that lived too short; others used "
        f"{outcome.others:.0%} of the machine",
        ("process", "peak MiB", "MiB per hour"),
        [(name, f"{outcome.peak_mib[name]:.0f}", _shown(measured[name])) for name in order],
    )
    return [faults, memory]
