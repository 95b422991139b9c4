"""Files and addresses that are asked for over the API: a supply of inputs for the run."""

from __future__ import annotations

import concurrent.futures
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final, Literal

import msgspec

from abhinaya.models.text import clean, short_name
from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import AbhinayaError
from abhinaya.stream.serve.errors import ApiError
from abhinaya.stream.settings.serve import ServeConfig
from abhinaya.stream.sinks.events import wall_time
from abhinaya.stream.sources.base import InputConfig

KEPT: Final = 1000
"""Jobs that are over and still known."""

MAX_NAMES: Final = 100_000
"""Names that are remembered."""

_SEPARATORS: Final = str.maketrans("/:", "--")

State = Literal["waiting", "running", "done", "failed", "cancelled"]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A file or address, and how far it is."""

    id: str
    name: str
    """Name of the input; its streams are called NAME, or NAME/CHANNEL."""
    state: State
    created: str
    streams: list[int]
    """Numbers of its streams that have begun."""
    error: str = ""
    """Why it failed."""


@dataclass(slots=True, eq=False)
class _Work:
    id: str
    name: str
    config: InputConfig
    created: str
    upload: Path | None
    state: State = "waiting"
    streams: list[int] = field(default_factory=list)
    error: str = ""
    cancelled: bool = False
    """Whether somebody wants it to end."""
    over: concurrent.futures.Future[None] = field(default_factory=concurrent.futures.Future)


class Requests:
    """The supply of a run that serves the API. Two threads use it.

    Args:
        config: how many inputs are read at a time, and how many may wait.
        folder: for uploads until they are read; what an earlier run has left there is deleted.
        streams_of: returns the numbers of the streams of an input.

    """

    def __init__(
        self, config: ServeConfig, folder: Path, streams_of: Callable[[str], list[int]]
    ) -> None:
        self._config = config
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.clear()
        self._streams_of = streams_of
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, _Work] = OrderedDict()
        self._waiting: deque[_Work] = deque()
        self._running: dict[str, _Work] = {}
        self._cancelled: list[str] = []
        """Names of inputs that run and shall end."""
        self._used: OrderedDict[str, int] = OrderedDict()
        """How often a name was used: a stream cannot begin twice in a run."""

    def clear(self) -> None:
        """Delete all uploads: at the start, and at the end of the run."""
        for left in self.folder.iterdir():
            left.unlink(missing_ok=True)

    # --- the thread of the web server -------------------------------------------------------------

    def add(self, name: str, config: InputConfig, upload: Path | None = None) -> Job:
        """Add an input.

        Args:
            name: how its streams shall be called.
            config: the input.
            upload: the uploaded file, which is deleted when it has been read.

        Raises:
            ApiError: 503, too many wait already.

        """
        # calls have a colon in their names, so no file can take the name of one
        name = short_name(clean(name).translate(_SEPARATORS).strip() or "file")
        work = _Work(secrets.token_hex(8), name, config, wall_time(unix_time()), upload)
        with self._lock:
            if len(self._waiting) >= self._config.files_waiting:
                message = f"{len(self._waiting)} files wait already"
                raise ApiError(503, "busy", message, "try again later", {"Retry-After": "10"})
            self._jobs[work.id] = work
            self._waiting.append(work)
            for old in [w for w in self._jobs.values() if w.over.done()][:-KEPT]:
                del self._jobs[old.id]
        return self._shown(work)

    def job(self, id: str) -> Job | None:
        """Return a job; None if it is unknown."""
        with self._lock:
            work = self._jobs.get(id)
        return self._shown(work) if work else None

    def jobs(self) -> list[Job]:
        """Return all known jobs, the latest first."""
        with self._lock:
            works = list(self._jobs.values())
        return [self._shown(work) for work in reversed(works)]

    def cancel(self, id: str) -> Job | None:
        """End a job as soon as possible, also a live address; None if it is unknown.

        What was said before the end keeps its verdicts. A second call changes nothing.

        Raises:
            ApiError: 409, it is over.

        """
        with self._lock:
            work = self._jobs.get(id)
            if work is None:
                return None
            if work.over.done() and not work.cancelled:
                raise ApiError(
                    409, "over", f"the job is {work.state}", "there is nothing to cancel"
                )
            before, work.cancelled = work.cancelled, True
            waits = work.state == "waiting"
            if waits:
                self._waiting.remove(work)
                self._end(work, "it was cancelled")
            elif not before:
                self._cancelled.append(work.name)
        return self._shown(work)

    def over_of(self, id: str) -> concurrent.futures.Future[None]:
        """Return what is done when a job is over."""
        with self._lock:
            return self._jobs[id].over

    # --- the run's thread: the protocol of `Supply` -----------------------------------------------

    @property
    def over(self) -> bool:
        """Whether no more inputs will come: never."""
        return False

    def start(self) -> None:
        """Do nothing: inputs come when somebody asks."""

    def take(self) -> list[tuple[str, InputConfig]]:
        """Return the name and input of each job to start now."""
        taken = []
        with self._lock:
            while self._waiting and len(self._running) < self._config.files_at_once:
                work = self._waiting.popleft()
                work.name = self._free(work.name)
                self._running[work.name] = work
                work.state = "running"
                taken.append((work.name, work.config))
        return taken

    def news(self) -> list[str]:
        """Return no messages: a job says what happens to it."""
        return []

    def faults(self) -> list[AbhinayaError]:
        """Return no errors: a job says what happens to it."""
        return []

    def cancelled(self) -> list[str]:
        """Return the names of inputs that shall end now, since the last call."""
        with self._lock:
            names, self._cancelled = self._cancelled, []
        return names

    def ended(self, name: str, reason: str) -> None:
        """Note that an input is finished and written; `reason`: why it broke off, or empty."""
        with self._lock:
            work = self._running.pop(name, None)
            if work is not None:
                work.streams = self._streams_of(name)
                self._end(work, reason)

    def _end(self, work: _Work, reason: str) -> None:
        if reason and work.cancelled:
            work.state = "cancelled"
        else:
            work.error, work.state = clean(reason), "failed" if reason else "done"
        if work.upload is not None:
            work.upload.unlink(missing_ok=True)
        work.over.set_result(None)

    def _free(self, name: str) -> str:
        """Return a name that no stream of the run has had."""
        count = self._used.pop(name, 0) + 1
        self._used[name] = count
        if len(self._used) > MAX_NAMES:
            self._used.popitem(last=False)
        return name if count == 1 else self._free(f"{name}~{count}")

    def _shown(self, work: _Work) -> Job:
        streams = work.streams or (self._streams_of(work.name) if work.state == "running" else [])
        return Job(
            id=work.id,
            name=work.name,
            state=work.state,
            created=work.created,
            streams=streams,
            error=work.error,
        )


def demo() -> InputConfig:
    """Return the demo call of the package, two parties, in real time."""
    call = resources.files("abhinaya.bench.demo") / "call.opus"
    names = ("agent", "customer")
    return InputConfig(
        str(call), channels="split", channel_names=names, realtime=True, label="demo"
    )
