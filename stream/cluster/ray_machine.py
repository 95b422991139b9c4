"""Ray on this machine: started, kept running, and ended in order. Nothing here imports Ray.

`ray start` leaves daemons behind. They carry a variable of ours in their environment, by which we
find them again, also those of an earlier `abhinaya cluster up` that was killed. When the raylet or
the head's server has died, the rest is ended and all is started again: the machine joins anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import math
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Final

from abhinaya.models.errors import MissingPackageError
from abhinaya.models.text import one_line
from abhinaya.stream.cluster import ray_settings
from abhinaya.stream.cluster.ray_faults import explain
from abhinaya.stream.cluster.ray_settings import Here
from abhinaya.stream.cluster.ray_token import check_token
from abhinaya.stream.errors import ConfigError, NetworkError, ProcessError
from abhinaya.stream.run.placement.ray_actor import DIRECTORY

START_S: Final = 120.0
"""Seconds that `ray start` may take."""

LOOK_S: Final = 0.5
ANSWER_S: Final = 2.0
"""Seconds in which the head and Redis must answer."""

ENDS_S: Final = {"raylet": 6.0, "gcs_server": 4.0, "": 3.0}
"""Seconds that a process has to end by itself, in this order: the raylet first, since without the
head's server it would wait. Empty: all others."""

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
STEADY_S: Final = 60.0
"""Ray that has run so long starts again without a pause."""


def run_logged(here: Here, command: Sequence[str], log: Path, within_s: float) -> int:
    """Run a command with Ray's settings until it ends; return its exit code.

    One that takes longer than `within_s` is killed. What it prints goes to `log`.
    """
    with log.open("w") as out:
        try:
            return subprocess.run(  # noqa: S603 - Ray, or our own module
                command,
                env=ray_settings.environment(here, os.environ),
                cwd=here.directory,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                timeout=within_s,
                start_new_session=True,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return -signal.SIGKILL


class RayHere:
    """Ray's processes on this machine. One at a time: a lock in their folder says so.

    Raises:
        MissingPackageError: Ray is not installed.

    """

    def __init__(self, here: Here) -> None:
        if importlib.util.find_spec("ray") is None:
            raise MissingPackageError(
                "a cluster of several machines",
                "needs the package ray, which is not installed",
                "install it on each machine with: pip install 'abhinaya[cluster]'",
            )
        self._here = here
        self._lock: IO[str] | None = None
        self._watched: dict[int, str] = {}
        """File descriptor of each process without which Ray does not work -> its name."""

    @property
    def log(self) -> Path:
        """What Ray says while it starts."""
        return self._here.directory / "start.log"

    def prepare(self) -> None:
        """Take the folder, end what an earlier run left behind, and check what can be checked.

        Raises:
            AbhinayaError: names what is wrong, and the remedy.

        """
        here = self._here
        _check_address(here)
        _make_private(here.directory)
        self._lock = _locked(here)
        check_token(here.token_file)
        self.stop()

    def runs(self) -> bool:
        """Whether another process of ours keeps Ray here."""
        if not self._here.directory.exists():
            return False
        try:
            _locked(self._here).close()
        except ProcessError:
            return True
        return False

    def start(self) -> None:
        """Start Ray, and join the cluster.

        Raises:
            AbhinayaError: names what is wrong, and the remedy.

        """
        here = self._here
        if here.machine.head:
            _check_port(here)
            _check_redis(here)
        elif not reachable(here):
            raise NetworkError(
                f"Ray's head {here.head.address}:{here.ray.port}",
                "does not answer",
                f"run `abhinaya cluster up` on machine {here.head.label}, and let the firewall "
                "pass Ray's ports",
            )
        code = run_logged(here, ray_settings.command(here), self.log, START_S)
        found = dict(self.processes())
        if code or "raylet" not in found.values():
            self.stop()
            raise explain(here, self.log.read_text("utf-8", "replace"), self.log)
        for pid, name in found.items():
            if name in ("raylet", "gcs_server"):
                with contextlib.suppress(ProcessLookupError):
                    self._watched[os.pidfd_open(pid)] = name

    def processes(self) -> list[tuple[int, str]]:
        """Return (process id, name of the program) of all that belongs to Ray here."""
        mark, found = f"{DIRECTORY}={self._here.directory}".encode(), []
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal() and int(folder.name) != os.getpid():
                with contextlib.suppress(OSError):  # it has ended, or belongs to another user
                    if mark in (folder / "environ").read_bytes().split(b"\0"):
                        program = (folder / "cmdline").read_bytes().partition(b"\0")[0]
                        name = os.path.basename(program).decode("utf-8", "replace")
                        found.append((int(folder.name), name))
        return found

    def dead(self) -> str:
        """Return the name of a process whose death ends Ray here; empty while all live."""
        poll = select.poll()
        for descriptor in self._watched:
            poll.register(descriptor, select.POLLIN)
        ended = [self._watched[descriptor] for descriptor, _ in poll.poll(0)]
        return ended[0] if ended else ""

    def stop(self) -> None:
        """End all processes of Ray here, and with them the actors and their children."""
        for descriptor in self._watched:
            os.close(descriptor)
        self._watched = {}
        for kind, patience_s in ENDS_S.items():
            deadline = time.monotonic() + patience_s
            asked: set[int] = set()
            while found := {p for p, name in self.processes() if kind in ("", name)}:
                over = time.monotonic() > deadline
                for pid in found if over else found - asked:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL if over else signal.SIGTERM)
                asked |= found
                time.sleep(0.2)

    def close(self) -> None:
        """Stop Ray, and let go of the folder; nothing if another process has it."""
        if self._lock is not None:
            self.stop()
            self._lock.close()


def keep(
    ray: RayHere,
    stopped: Callable[[], bool],
    joined: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    """Keep Ray running until `stopped`. `joined` is called after each start.

    Raises:
        AbhinayaError: it cannot be started, and waiting will not help.

    """
    pause_s, said, began = 0.0, "", -math.inf
    while not stopped():
        try:
            ray.start()
            joined()
        except (NetworkError, ProcessError) as error:  # the head may come later, and so may Redis
            if isinstance(error, ProcessError) and began == -math.inf:
                raise
            if str(error) != said:
                say(f"{error}; trying again")
            said = str(error)
        else:
            began, said = time.monotonic(), ""
            while not (over := stopped()) and not (dead := ray.dead()):
                time.sleep(LOOK_S)
            if over:
                return
            say(f"Ray's {dead} has ended; starting Ray again")
            pause_s *= time.monotonic() - began < STEADY_S
        ray.stop()
        until = time.monotonic() + pause_s
        while not stopped() and time.monotonic() < until:
            time.sleep(LOOK_S)
        pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, 2 * pause_s))


def reachable(here: Here) -> bool:
    """Whether Ray's head takes connections."""
    try:
        with socket.create_connection((here.head.address, here.ray.port), ANSWER_S):
            return True
    except OSError:
        return False


def _check_address(here: Here) -> None:
    """Refuse to start on a machine that has not the address of the file: labels would mix."""
    address = here.machine.address
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.bind((address, 0))
    except OSError as error:
        raise ConfigError(
            f"machine {here.machine.label}",
            f"has the address {address} in cluster.toml, which this machine does not have",
            "run this on the right machine, or correct the address",
        ) from error


def _make_private(directory: Path) -> None:
    """Make Ray's folder. A user who can open the sockets in it can run code."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = directory.stat()
    except OSError as error:
        raise ProcessError(str(directory), f"cannot be used: {error.strerror}") from error
    if facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
        remedy = f"`chmod 700 {directory}` as its owner, or remove it"
        raise ProcessError(str(directory), "is open to other users", remedy)


def _locked(here: Here) -> IO[str]:
    lock = (here.directory / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise ProcessError(
            f"machine {here.machine.label}", "runs already: another `abhinaya cluster up` is here"
        ) from error
    return lock


def _check_port(here: Here) -> None:
    """Refuse a port at which another program answers: Ray's head would share it silently."""
    if reachable(here):
        reason = "is taken on this machine"
        raise ConfigError(f"[ray] port = {here.ray.port}", reason, "choose another port")


def _check_redis(here: Here) -> None:
    """Ask Redis whether it lives; over TLS only whether something listens."""
    if not here.ray.redis:
        return
    name = f"Redis {here.ray.redis}"
    host, _, port = here.ray.redis.rpartition("/")[2].rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ANSWER_S) as connection:
            if here.ray.redis.startswith("rediss://"):
                return
            connection.settimeout(ANSWER_S)
            connection.sendall(b"PING\r\n")
            answer = connection.recv(200)
    except (OSError, ValueError) as error:
        reason = f"does not answer: {error}"
        raise NetworkError(name, reason, "start it, or correct [ray] redis") from error
    if not answer.startswith(b"+PONG"):
        said = one_line(answer.decode("utf-8", "replace"))
        raise ConfigError(
            name,
            f"refuses: {said}",
            "use certificates (rediss://) or loopback: Ray would show a password to all users of "
            "the machine",
        )
