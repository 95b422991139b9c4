"""Paced streams for a long time while nodes are killed and hung: what is lost, what grows.

    abhinaya bench soak --minutes 30 --streams 2 --kill-every 120 --hang-every 300

Every stream is composed of the given files, one after another. What it must be cut into is found
beforehand, in this process; the run must account for exactly these segments, each once, as a
verdict or as a gap with its reason. Nodes are taken in random order, each before any is taken
twice; a hung one (SIGSTOP) is found by its silence. Exits with 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

from rich.table import Table

from abhinaya.bench.demo import CALL
from abhinaya.bench.monitored import MAIN, Usage, Watcher, add_profile, play, profile_of
from abhinaya.bench.recording import Span, audio_under, compose, spans
from abhinaya.bench.report import Report, parser, publish, table
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.run.monitor import HUB
from abhinaya.stream.run.supervisor import Stage, Supervisor
from abhinaya.stream.wire.messages import Event, Gap, NodeUp, Status, StreamEnded, Verdict

Kind = Literal["kill", "hang"]
SIGNALS: Final[Mapping[Kind, signal.Signals]] = {
    "kill": signal.SIGKILL,
    "hang": signal.SIGSTOP,
}
E2E: Final = Path("../shared/data/e2e")
MAX_SETTLE_S: Final = 60.0
"""A process grows while it warms up: that much of its life is left out of the slope."""


@dataclass(slots=True)
class Blow:
    """One node killed or hung, and how the service came back."""

    at_s: float
    """Since the first segment was decided."""
    kind: Kind
    node: str
    ready_s: float | None = None
    """From the signal until a new process was ready; None if none was."""


class Chaos(Watcher):
    """Kills and hangs nodes.

    Args:
        kill_every_s: between two kills; 0 for none.
        hang_every_s: between two hangs; 0 for none.
        until_s: after the first, none begin.
        seed: of the order.

    """

    def __init__(
        self, kill_every_s: float, hang_every_s: float, until_s: float, seed: int = 0
    ) -> None:
        self._every: dict[Kind, float] = {"kill": kill_every_s, "hang": hang_every_s}
        self._next: dict[Kind, float] = {}
        self._until_s = until_s
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._bag: list[str] = []
        self._begun = 0.0
        self._under_way = False
        self._now = 0.0
        self._latest: Status | None = None
        self._up: list[str] = []
        self.blows: list[Blow] = []

    def event(self, event: Event, now_unix_s: float) -> None:
        """Note what comes back."""
        if isinstance(event, NodeUp):
            self._up.append(event.node)
        elif isinstance(event, Status):
            self._latest = event
        elif isinstance(event, Verdict):
            self._under_way = True

    def look(self, processes: Supervisor, now: float) -> None:
        """Strike if it is time."""
        if not self._under_way:
            return
        if not self._next:
            self._begun = now
            self._next = {kind: now + every for kind, every in self._every.items() if every}
        self._note(now)
        for kind, due in self._next.items():
            if due <= now < self._begun + self._until_s:
                victim = self._victim(processes)
                if victim is not None:
                    self._next[kind] = due + self._every[kind]
                    self._strike(processes, victim, kind, now)

    def _note(self, now: float) -> None:
        """Mark the blows from which a service has recovered since."""
        for blow in self.blows:
            if blow.ready_s is None and blow.node in self._up:
                blow.ready_s = now - self._begun - blow.at_s
        self._up.clear()

    def _victim(self, processes: Supervisor) -> str | None:
        """Return the next node, if all are well: what two blows at once do is another question."""
        stages = processes.stages()
        nodes = [load.node for load in self._latest.nodes] if self._latest else []
        if any(blow.ready_s is None for blow in self.blows):
            return None
        if not nodes or any(stages.get(node) is not Stage.READY for node in nodes):
            return None
        if not self._bag:
            self._bag = sorted(nodes)
            self._random.shuffle(self._bag)
        return self._bag.pop()

    def _strike(self, processes: Supervisor, node: str, kind: Kind, now: float) -> None:
        pid = processes.pid(node)
        if pid is not None:
            os.kill(pid, SIGNALS[kind])
            self.blows.append(Blow(now - self._begun, kind, node))


@dataclass(slots=True)
class _Told:
    """What was told of one stream."""

    outcomes: list[Verdict | Gap] = field(default_factory=list)
    """First ones, in order."""
    ended: int | None = None


class Account(Watcher):
    """Holds what came out against what had to come out.

    Args:
        expected: the segments of each stream.

    """

    def __init__(self, expected: Mapping[str, Sequence[Span]]) -> None:
        self._expected = expected
        self.told = {stream: _Told() for stream in expected}

    def event(self, event: Event, now_unix_s: float) -> None:
        """Note an outcome; that it was revised later is no other one."""
        if isinstance(event, StreamEnded):
            self.told[event.stream].ended = event.sequence
        elif isinstance(event, Gap) or (isinstance(event, Verdict) and not event.revision):
            self.told[event.stream].outcomes.append(event)

    def verdicts(self) -> list[Verdict]:
        """Return the verdicts of all streams."""
        told = (event for each in self.told.values() for event in each.outcomes)
        return [event for event in told if isinstance(event, Verdict)]

    def faults(self) -> list[str]:
        """Say everything that was lost or came twice; nothing if all is accounted for."""
        return [fault for stream in self._expected for fault in self._faults(stream)]

    def _faults(self, stream: str) -> Iterable[str]:
        told, expected = self.told[stream], self._expected[stream]
        sequences = [event.sequence for event in told.outcomes]
        spoken = [(event.start, event.end) for event in told.outcomes]
        if sequences != list(range(len(sequences))):
            yield f"{stream}: sequence numbers have holes or come twice: {sequences}"
        if told.ended is None:
            yield f"{stream}: its end was never told"
        elif told.ended != len(sequences):
            yield f"{stream}: ended after {told.ended} segments, {len(sequences)} were told"
        lost = sorted(set(expected) - set(spoken))
        if lost:
            yield f"{stream}: {len(lost)} of {len(expected)} segments lost, the first {lost[0]}"
        if len(spoken) > len(expected):
            yield f"{stream}: {len(spoken)} segments were told of {len(expected)}"


def slope_per_hour(lives: Iterable[Sequence[tuple[float, float]]], settle_s: float) -> float | None:
    """Fit one slope to the memory of successive processes, each with its own level.

    Args:
        lives: [(seconds, MiB)] of each process that bore the name.
        settle_s: how much of the beginning of each is left out.

    Returns:
        MiB per hour by least squares; None if no process lived long enough.

    """
    above = below = 0.0
    for life in lives:
        settled = [(t, mib) for t, mib in life if t - life[0][0] >= settle_s]
        if len(settled) < 3:
            continue
        mean_t = sum(t for t, _ in settled) / len(settled)
        mean_mib = sum(mib for _, mib in settled) / len(settled)
        above += sum((t - mean_t) * (mib - mean_mib) for t, mib in settled)
        below += sum((t - mean_t) ** 2 for t, _ in settled)
    return 3600 * above / below if below else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a soak came to."""

    minutes: float
    segments: int
    verdicts: int
    gaps: int
    incomplete: int
    """Verdicts without some vote, each with its reason."""
    faults: tuple[str, ...]
    blows: tuple[Blow, ...]
    peak_mib: dict[str, float]
    slope_mib_per_hour: dict[str, float | None]
    others: float

    @property
    def lost(self) -> bool:
        """Whether anything was lost: a segment, or a service for good."""
        return bool(self.faults) or any(blow.ready_s is None for blow in self.blows)


def soak(options: argparse.Namespace) -> Outcome:
    """Run it.

    Raises:
        AbhinayaError: a file cannot be read, or the run could not go on.

    """
    config = profile_of(options)
    seconds = 60 * options.minutes
    sources = _sources(options.files)
    # the last blow leaves time to recover before the streams end
    quiet_end_s = min(30.0, 0.4 * seconds)
    with tempfile.TemporaryDirectory(prefix="abhinaya-soak-") as folder:
        recordings: dict[str, Path] = {}
        for number in range(options.streams):
            path = recordings[f"stream-{number}"] = Path(folder) / f"{number}.wav"
            compose(sources, seconds, number * len(sources) // options.streams, path)
        account = Account({name: spans(path, config.vad) for name, path in recordings.items()})
        chaos = Chaos(options.kill_every, options.hang_every, seconds - quiet_end_s, options.seed)
        # few enough samples that keeping them is no growth of its own
        usage = Usage(max(1.0, seconds / 360))
        play(config, recordings, [account, chaos, usage])
    settle_s = min(MAX_SETTLE_S, seconds / 10)
    verdicts = account.verdicts()
    segments = sum(len(told.outcomes) for told in account.told.values())
    return Outcome(
        minutes=options.minutes,
        segments=segments,
        verdicts=len(verdicts),
        gaps=segments - len(verdicts),
        incomplete=sum(bool(verdict.missing) for verdict in verdicts),
        faults=tuple(account.faults()),
        blows=tuple(chaos.blows),
        peak_mib=usage.peaks(),
        slope_mib_per_hour={
            name: slope_per_hour(
                [samples for (other, _), samples in usage.samples.items() if other == name],
                settle_s,
            )
            for name in usage.peaks()
        },
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
    """Soak and print; exit with 1 if anything was lost."""
    arguments = parser("soak", __doc__)
    arguments.add_argument(
        "files", nargs="*", type=Path, help=f"files or folders ({E2E} if there, or the demo)"
    )
    arguments.add_argument("--minutes", type=float, default=30.0, help="(30)")
    arguments.add_argument("--streams", type=int, default=2, help="(2)")
    arguments.add_argument(
        "--kill-every", type=float, default=120.0, metavar="S", help="seconds, 0 for never (120)"
    )
    arguments.add_argument(
        "--hang-every", type=float, default=300.0, metavar="S", help="seconds, 0 for never (300)"
    )
    arguments.add_argument("--seed", type=int, default=0, help="of the order of nodes (0)")
    add_profile(arguments)
    options = arguments.parse_args(argv)
    outcome = soak(options)
    settings = {key: str(value) for key, value in vars(options).items() if key != "json"}
    figures = asdict(outcome) | {"lost": outcome.lost}
    publish(Report("soak", settings, figures), _tables(outcome), options.json)
    for fault in outcome.faults:
        print(f"LOST: {fault}")
    print(_verdict(outcome))
    return 1 if outcome.lost else 0


def _verdict(outcome: Outcome) -> str:
    worst = {
        kind: max((b.ready_s for b in outcome.blows if b.kind == kind and b.ready_s), default=0.0)
        for kind in SIGNALS
    }
    kills = sum(blow.kind == "kill" for blow in outcome.blows)
    return (
        f"{'LOST SOMETHING' if outcome.lost else 'nothing lost'}: {outcome.segments} segments in "
        f"{outcome.minutes:g} min, {outcome.verdicts} verdicts ({outcome.incomplete} without some "
        f"vote), {outcome.gaps} gaps; {kills} kills, longest recovery {worst['kill']:.1f} s; "
        f"{len(outcome.blows) - kills} hangs, longest recovery {worst['hang']:.1f} s"
    )


def _tables(outcome: Outcome) -> list[Table]:
    blows = table(
        "Nodes killed and hung: seconds until the service was ready again",
        ("node", "at s", "how", "ready s"),
        [
            (b.node, f"{b.at_s:.0f}", b.kind, "never" if b.ready_s is None else f"{b.ready_s:.1f}")
            for b in outcome.blows
        ],
    )
    order = sorted(outcome.peak_mib, key=lambda name: (name not in (MAIN, HUB), name))
    memory = table(
        f"Resident memory; others used {outcome.others:.0%} of the machine",
        ("process", "peak MiB", "MiB per hour"),
        [
            (name, f"{outcome.peak_mib[name]:.0f}", _slope(outcome.slope_mib_per_hour[name]))
            for name in order
        ],
    )
    return [blows, memory]


def _slope(value: float | None) -> str:
    return "too short" if value is None else f"{value:+.1f}"
