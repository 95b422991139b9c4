"""Runs live streams for a long time while nodes are killed and hung; reports losses and growth.

    abhinaya bench soak --minutes 30 --streams 2 --kill-every 120 --hang-every 300

Every stream plays the given files one after another. Its segments are computed beforehand; the run
must report exactly these segments, each once, as a verdict or as a gap with its reason. Nodes are
killed or hung in random order, each once before any a second time. A hung node (SIGSTOP) is noticed
by its silence. Exits with 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from rich.table import Table

from abhinaya.bench.demo import CALL
from abhinaya.bench.monitored import MAIN, Usage, Watcher, add_profile, live, play, profile_of
from abhinaya.bench.recording import Span, audio_under, compose, spans
from abhinaya.bench.report import Report, parser, publish, settings_of, table
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.run.monitor import HUB
from abhinaya.stream.run.supervisor import Supervisor
from abhinaya.stream.wire.child import Stage
from abhinaya.stream.wire.messages import Event, Gap, NodeUp, Status, StreamEnded, Verdict

Kind = Literal["kill", "hang"]
SIGNALS: Final[Mapping[Kind, signal.Signals]] = {"kill": signal.SIGKILL, "hang": signal.SIGSTOP}
E2E: Final = Path("../shared/data/e2e")
MAX_SETTLE_S: Final = 60.0
"""Maximum warm-up of a process, which is left out of the slope of its memory."""


@dataclass(slots=True)
class Fault:
    """A node that was killed or hung, and the recovery of its service."""

    at_s: float
    """Seconds since the first verdict."""
    kind: Kind
    node: str
    ready_s: float | None = None
    """Seconds from the signal until a new process was ready; None if this did not happen."""


class FaultInjector(Watcher):
    """Kills and hangs nodes in random order, until `until_s`."""

    def __init__(self, every_s: Mapping[Kind, float], until_s: float, seed: int = 0) -> None:
        self._every = {kind: every for kind, every in every_s.items() if every}
        self._next: dict[Kind, float] = {}
        self._until_s, self._begun, self._under_way = until_s, 0.0, False
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._bag: list[str] = []
        self._latest: Status | None = None
        self._up: list[str] = []
        self.faults: list[Fault] = []

    def event(self, event: Event, now_unix_s: float) -> None:
        """Record nodes that are up, and the latest status."""
        if isinstance(event, NodeUp):
            self._up.append(event.node)
        elif isinstance(event, Status):
            self._latest = event
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
            if due <= now < self._begun + self._until_s and (node := self._victim(processes)):
                self._next[kind] = due + self._every[kind]
                if (pid := processes.pid(node)) is not None:
                    os.kill(pid, SIGNALS[kind])
                    self.faults.append(Fault(now - self._begun, kind, node))

    def _victim(self, processes: Supervisor) -> str | None:
        """Return the next node; None unless all nodes are ready, so that faults do not overlap."""
        stages = processes.stages()
        nodes = [load.node for load in self._latest.nodes] if self._latest else []
        if any(fault.ready_s is None for fault in self.faults):
            return None
        if not nodes or any(stages.get(node) is not Stage.READY for node in nodes):
            return None
        if not self._bag:
            self._bag = sorted(nodes)
            self._random.shuffle(self._bag)
        return self._bag.pop()


class Account(Watcher):
    """Compares the reported segments of each stream with the expected ones."""

    def __init__(self, expected: Mapping[str, Sequence[Span]]) -> None:
        self._expected = expected
        self.outcomes: dict[str, list[Verdict | Gap]] = {stream: [] for stream in expected}
        """First outcome of each segment, in the order of arrival."""
        self._ended: dict[str, int] = {}

    def event(self, event: Event, now_unix_s: float) -> None:
        """Record the outcome of a segment, without later revisions."""
        if isinstance(event, StreamEnded):
            self._ended[event.stream] = event.sequence
        elif isinstance(event, Gap) or (isinstance(event, Verdict) and not event.revision):
            self.outcomes[event.stream].append(event)

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


def slope_per_hour(lives: Iterable[Sequence[tuple[float, float]]], settle_s: float) -> float | None:
    """Fit one slope to the memory of successive processes, each with its own level.

    `lives` are [(seconds, MiB)] of each process of the same name; the first `settle_s` of each are
    left out. The slope is MiB per hour by least squares; None if no process lived long enough.
    """
    centred = []
    for life in lives:
        settled = np.array([sample for sample in life if sample[0] - life[0][0] >= settle_s])
        if len(settled) >= 3:
            centred.append(settled - settled.mean(axis=0))
    if not centred:
        return None
    seconds, mib = np.concatenate(centred).T
    return float(3600 * (seconds @ mib) / (seconds @ seconds))


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
    slope_mib_per_hour: dict[str, float | None]
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
        account = Account({name: spans(path, config.vad) for name, path in recordings.items()})
        every_s: dict[Kind, float] = {"kill": options.kill_every, "hang": options.hang_every}
        injector = FaultInjector(every_s, until_s, options.seed)
        # few samples, so that storing them does not count as growth
        usage = Usage(max(1.0, seconds / 360))
        play(config, live(recordings), [account, injector, usage])
    outcomes = [event for each in account.outcomes.values() for event in each]
    verdicts = [event for event in outcomes if isinstance(event, Verdict)]
    lives: dict[str, list[Sequence[tuple[float, float]]]] = {}
    for (name, _), samples in usage.samples.items():
        lives.setdefault(name, []).append(samples)
    settle_s = min(MAX_SETTLE_S, seconds / 10)
    return Outcome(
        minutes=options.minutes,
        segments=len(outcomes),
        verdicts=len(verdicts),
        gaps=len(outcomes) - len(verdicts),
        incomplete=sum(bool(verdict.missing) for verdict in verdicts),
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


def _tables(outcome: Outcome) -> list[Table]:
    faults = table(
        "Nodes killed and hung: seconds until the service was ready again",
        ("node", "at s", "how", "ready s"),
        [
            (b.node, f"{b.at_s:.0f}", b.kind, "never" if b.ready_s is None else f"{b.ready_s:.1f}")
            for b in outcome.faults
        ],
    )
    slopes = {
        name: "too short" if slope is None else f"{slope:+.1f}"
        for name, slope in outcome.slope_mib_per_hour.items()
    }
    order = sorted(outcome.peak_mib, key=lambda name: (name not in (MAIN, HUB), name))
    memory = table(
        f"Resident memory; others used {outcome.others:.0%} of the machine",
        ("process", "peak MiB", "MiB per hour"),
        [(name, f"{outcome.peak_mib[name]:.0f}", slopes[name]) for name in order],
    )
    return [faults, memory]
