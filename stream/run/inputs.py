"""Assigns the inputs of a run to fronts, and reassigns them when a front dies.

Regular files share a front: voice activity detection then runs in batches, and many files need few
processes. An input that may make others wait (microphone, pipe, address, paced file) has its own
front. If a front with several files dies, its files are divided between two fronts: a file that
kills the decoder is finally alone, and the others are read.

All calls of a cell that the gateway pushes come through one front, its push front. It stays; the
main process knows a call only by its streams, once they have started.

Files of one front belong to one cell; an input that finds no open cell waits for one.

What is over is forgotten: a run may live for months.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from abhinaya.models.text import pack
from abhinaya.stream.cells.follow import Follow
from abhinaya.stream.errors import AbhinayaError, ProcessError
from abhinaya.stream.front.assignment import INTERRUPTED, AssignedInput, Assignment
from abhinaya.stream.run.ledger import Ledger
from abhinaya.stream.run.plan import Input, Supply
from abhinaya.stream.run.supervisor import Spec
from abhinaya.stream.sinks.summary import NOT_PROCESSED
from abhinaya.stream.sources.address import is_address
from abhinaya.stream.sources.base import InputConfig
from abhinaya.stream.wire.child import leave_cancelled, leave_hub, read_faults, read_reached
from abhinaya.stream.wire.keys import Keys
from abhinaya.stream.wire.messages import Event, Gap, StreamEnded, StreamInfo, StreamStarted

TOGETHER: Final = 32
"""Maximum number of files that share a front."""
AT_ONCE: Final = 4
"""Maximum number of fronts that read files at the same time; further files wait."""


@dataclass(slots=True)
class _Assigned:
    """An input and its front."""

    input: Input
    front: str
    live: bool = False
    """Whether its streams are live."""
    broken: str = ""
    """Why one of its streams broke off."""
    failed: bool = False
    """Whether the input is given up."""
    cancelled: bool = False
    """Whether somebody wants it to end."""


class Inputs:
    """The inputs of a run.

    Args:
        directory: that of the run.
        ledger: how far the streams are written.
        follow: decides the cells of the fronts.
        keys: keys of this process.
        prefix: begins the names of fronts: it makes them unique among all clients of a hub.
        supply: hears of inputs that are over.
        run: id of the run.

    """

    def __init__(
        self,
        directory: Path,
        ledger: Ledger,
        follow: Follow,
        keys: Keys | None,
        prefix: str,
        supply: Supply | None,
        run: str,
    ) -> None:
        self._run = run
        self._directory = directory
        self._ledger = ledger
        self._follow, self._keys = follow, keys
        self._names = (f"{prefix}front-{number}" for number in itertools.count())
        self._supply = supply
        self._reads: dict[str, _Assigned] = {}
        self._fronts: dict[str, list[_Assigned]] = {}
        """Fronts that were started, and their inputs that are not over."""
        self._pushed: dict[str, str] = {}
        """The push fronts, and their cells."""
        self._stay: set[str] = set()
        """Those of them that are never over: their cells are needed."""
        self._prefix = prefix
        self._has_ends = False
        """Whether an input that ends by itself is over."""
        self._of_files: set[str] = set()
        """Fronts that read files and are not over."""
        self._waiting: deque[Input] = deque()
        """Files that no front reads yet."""
        self._homeless: deque[Input] = deque()
        """Other inputs that no front reads yet: no cell is open."""

    @property
    def fronts(self) -> list[str]:
        """Names of the fronts that were started and not forgotten."""
        return list(self._fronts)

    @property
    def waiting(self) -> bool:
        """Whether inputs wait for a front."""
        return bool(self._waiting or self._homeless)

    # --- fronts -----------------------------------------------------------------------------------

    def add(self, inputs: Iterable[Input]) -> Iterator[Spec]:
        """Assign inputs to new fronts; yield the processes to start. Many files wait for `next`."""
        for item in inputs:
            (self._waiting if is_regular_file(item) else self._homeless).append(item)
        yield from self.next()

    def next(self) -> Iterator[Spec]:
        """Assign waiting inputs to new fronts, if there is room for them; yield the processes."""
        if not self.waiting or self._follow.expect("") is None:
            return
        while self._homeless:
            yield self._front([_Assigned(self._homeless.popleft(), "")])
        self._of_files = {front for front in self._of_files if not self.is_over(front)}
        while self._waiting and len(self._of_files) < AT_ONCE:
            spec = self._front([_Assigned(item, "") for item in self._take_files()])
            self._of_files.add(spec.name)
            yield spec

    def _take_files(self) -> list[Input]:
        """Take waiting files of one cell: that of the first."""
        cells = ((item, self._follow.expect(item.name)) for item in self._waiting)
        _, cell = next(cells)
        of_cell = (item for item, its_cell in cells if its_cell == cell)
        taken = [self._waiting[0], *itertools.islice(of_cell, TOGETHER - 1)]
        names = {item.name for item in taken}
        self._waiting = deque(item for item in self._waiting if item.name not in names)
        return taken

    def push_fronts(self, cells: Collection[str]) -> Iterator[Spec]:
        """Keep a push front for each of these cells; yield the processes to start."""
        self._stay = {front for front in self._stay if self._pushed[front] in cells}
        for cell in cells:
            name = f"{self._prefix}push{cell and '-'}{cell}"
            if name not in self._fronts and self._follow.add(name, name, home=cell):
                self._fronts[name], self._pushed[name] = [], cell
                self._stay.add(name)
                self.assign(name)
                yield Spec(name, "abhinaya.stream.front.push", ("--name", name))

    def forget(self, front: str) -> None:
        """Forget a front that has ended, and its files."""
        del self._fronts[front]
        self._follow.forget(front)
        self._pushed.pop(front, None)
        self._of_files.discard(front)
        for ending in ("json", "hub", "reached", "beat", "cancelled"):
            (self._directory / f"{front}.{ending}").unlink(missing_ok=True)

    def _front(self, reads: list[_Assigned]) -> Spec:
        """Assign inputs to a new front; return its process."""
        name, before = next(self._names), reads[0].front
        if before:
            self._follow.add_beside(name, before)
        else:
            self._follow.add(name, reads[0].input.name)
        for read in reads:
            if read.front:
                self._fronts[read.front].remove(read)
            read.front = name
            self._reads[read.input.name] = read
        self._fronts[name] = reads
        self.assign(name)
        piped = any(read.input.config.what == "-" for read in reads)
        return Spec(
            name,
            "abhinaya.stream.front.main",
            ("--name", name),
            restarts=not piped,  # data that a dead process has read from a pipe is lost
            reads_stdin=piped,
            ends=True,
        )

    def died(self, front: str, final: bool) -> list[Spec]:
        """Reassign the inputs of a dead front; return the new processes to start.

        The supervisor restarts the front itself, unless its death is `final`.
        """
        if front in self._pushed:
            if not final:
                self.assign(front)
            return []
        reads = list(self._fronts[front])
        if final and len(reads) == 1:
            self._fail(reads[0], "the process that reads it died too often")
            return []
        # if one file killed the front, it would do so again: separate it from the others
        moved = reads[len(reads) // 2 :] if len(reads) > 1 else []
        groups = [moved, reads[: len(reads) // 2]] if final else [moved]
        specs = [self._front(group) for group in groups if group]
        self._of_files |= {spec.name for spec in specs}
        if not final:
            self.assign(front)
        return specs

    def is_lost(self, front: str, final: bool) -> bool:
        """Whether a dead front has an input that no other front will read."""
        return final and (front in self._pushed or len(self._fronts[front]) <= 1)

    def is_over(self, front: str) -> bool:
        """Whether all inputs of a front are finished and written, and no more come."""
        return front not in self._stay and not self._fronts[front]

    def is_written(self, front: str) -> bool:
        """Whether the end of each stream that a front has started is written."""
        return all(self._ledger.over(read.input.name) for read in self._fronts[front])

    def move(self, front: str) -> None:
        """Write where the hub of a front is; a front that runs connects there."""
        cell = self._follow.cell_of(front)
        leave_hub(self._directory, front, cell.endpoint, cell.key)

    def assign(self, front: str) -> None:
        """Write the assignment of a front: its hub, its inputs, how far their streams have come."""
        keys = self._follow.cell_of(front).keys(self._keys)
        assignment = Assignment(
            front=front,
            keys=(str(keys.directory.absolute()), keys.name) if keys else None,
            cell=self._pushed.get(front, ""),
            run=self._run,
            inputs=tuple(
                AssignedInput(
                    name=read.input.name,
                    config=read.input.config,
                    standings=self._ledger.standings(read.input.name),
                )
                for read in self._fronts[front]
            ),
        )
        try:
            self.move(front)
            self._leave_cancelled(front)
            (self._directory / f"{front}.json").write_bytes(pack(assignment))
        except OSError as error:
            reason = f"cannot be written: {error.strerror}"
            raise ProcessError(str(self._directory), reason, "make room") from error

    def cancel(self, name: str) -> None:
        """End an input, which may wait, be read, or be over."""
        for waiting in (self._waiting, self._homeless):
            for item in [item for item in waiting if item.name == name]:
                waiting.remove(item)
                if self._supply is not None:
                    self._supply.ended(name, INTERRUPTED)
        if (read := self._reads.get(name)) is not None:
            read.cancelled = True
            with contextlib.suppress(OSError):  # a full disk: it goes on to its end
                self._leave_cancelled(read.front)

    def _leave_cancelled(self, front: str) -> None:
        if names := [read.input.name for read in self._fronts[front] if read.cancelled]:
            leave_cancelled(self._directory, front, names)

    # --- progress of inputs -----------------------------------------------------------------------

    def started(self, info: StreamInfo) -> None:
        """Note that a stream has started."""
        if info.front in self._pushed and info.input not in self._reads:
            call = _Assigned(Input(info.input, InputConfig(info.source)), info.front)
            self._reads[info.input] = call
            self._fronts[info.front].append(call)
        if info.input in self._reads:
            self._reads[info.input].live |= info.live

    def ended(self, event: StreamEnded) -> None:
        """Note that the end of a stream is written."""
        read = self._reads.get(self._ledger.input_of(event.stream))
        if read is not None:
            read.broken = read.broken or event.reason
            if self._is_over(read):
                if not read.failed:
                    self._release(read, read.broken)
                self._forget(read)

    def endings(
        self, reason: str, fronts: Collection[str] | None = None
    ) -> Iterator[Gap | StreamEnded]:
        """Yield the gaps and ends of all streams that no process will end; of `fronts` or of all.

        Nothing that was begun disappears without a word, whatever has died.
        """
        reached = self.reached()
        for name, read in self._reads.items():
            if fronts is None or read.front in fronts:
                yield from self._ledger.endings(name, reached, reason)

    def reached(self) -> dict[str, int]:
        """Return how far each stream was read, as the fronts noted it, also the dead ones."""
        return read_reached(self._directory)

    def never_begun(self) -> list[Input]:
        """Return the inputs of which no stream has begun, and that have not failed."""
        reads = (read.input for read in self._reads.values() if not read.failed)
        return [
            i for i in (*reads, *self._waiting, *self._homeless) if not self._ledger.begun(i.name)
        ]

    def faults(self) -> list[AbhinayaError]:
        """Return the errors of inputs since the last call."""
        found = read_faults(self._directory)
        for name, error in found:
            if name in self._reads:
                self._fail(self._reads[name], str(error))
        return [error for _, error in found]

    def is_endless(self) -> bool:
        """Whether only Ctrl-C can end all inputs."""
        return not self._has_ends and all(map(_is_endless, self._reads.values()))

    def _fail(self, read: _Assigned, reason: str) -> None:
        read.failed = True
        self._release(read, reason)
        if self._is_over(read):
            self._forget(read)

    def _release(self, read: _Assigned, reason: str) -> None:
        if self._supply is not None and read.front not in self._pushed:
            self._supply.ended(read.input.name, reason)

    def _forget(self, read: _Assigned) -> None:
        self._has_ends |= not _is_endless(read)
        del self._reads[read.input.name]
        self._fronts[read.front].remove(read)

    def _is_over(self, read: _Assigned) -> bool:
        name = read.input.name
        return self._ledger.over(name) and (read.failed or self._ledger.begun(name))


def _is_endless(read: _Assigned) -> bool:
    what = read.input.config.what
    return what == "mic" or (is_address(what) and read.live and not read.input.config.realtime)


def is_regular_file(item: Input) -> bool:
    """Whether an input is a regular file, read at full speed: it never makes others wait."""
    what = item.config.what
    return (
        not item.config.realtime
        and what not in ("-", "mic")
        and not is_address(what)
        and Path(what).is_file()
    )


def not_processed(item: Input, run: str, now_unix_s: float, reason: str) -> tuple[Event, Event]:
    """Return the events that name an input that no process has opened."""
    info = StreamInfo(
        stream=item.name,
        front="",
        source=item.config.subject,
        live=False,
        start_unix_s=now_unix_s,
        input=item.name,
        run=run,
    )
    why = f"{NOT_PROCESSED}: {reason}"
    ended = StreamEnded(stream=item.name, sequence=0, position=0, reason=why)
    return StreamStarted(info=info), ended


def reason_of(error: BaseException) -> str:
    """Return why an error ends all streams."""
    if isinstance(error, SystemExit):
        return "nobody reads the output any more"
    known = isinstance(error, AbhinayaError)
    return str(error) if known else f"the run stopped on an unexpected {type(error).__name__}"
