"""`abhinaya cluster`: cells of hubs and nodes, on this machine or on several."""

from __future__ import annotations

import argparse
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from abhinaya.models.command_line import Parser
from abhinaya.models.errors import near_miss
from abhinaya.models.text import say
from abhinaya.stream.clock import unix_time
from abhinaya.stream.cluster import keys, ray_up, show
from abhinaya.stream.cluster import main as loop
from abhinaya.stream.cluster.config import Cluster, ClusterConfig
from abhinaya.stream.cluster.load import load
from abhinaya.stream.cluster.state import State, fault_of_change
from abhinaya.stream.commands import render
from abhinaya.stream.errors import ConfigError, ProcessError
from abhinaya.stream.log import add_log_flags, open_log
from abhinaya.stream.run.directory import logs_kept, run_directory
from abhinaya.stream.run.placement.base import Machine
from abhinaya.stream.run.placement.local import Local, this_machine
from abhinaya.stream.settings.flags import describe_settings
from abhinaya.stream.wire.child import Stop, run_alone

PROGRAM: Final = "abhinaya cluster"
AUTO: Final = "auto"
MOST_NODES: Final = 1000
LOOK_S: Final = 0.3


def main(argv: Sequence[str]) -> int:
    """Run `abhinaya cluster NAME`; return the exit code."""
    commands: Mapping[str, Callable[[Sequence[str]], int]] = {
        "up": _up,
        "status": _status,
        "scale": _scale,
        "down": _down,
        "keys": _keys,
        "render": render.main,
        "settings": _settings,
    }
    name, rest = (argv[0], argv[1:]) if argv else ("", ())
    if name in commands:
        return commands[name](rest)
    if name in ("", "-h", "--help"):
        print(f"usage: {PROGRAM} COMMAND cluster.toml ...\n")
        for known, command in commands.items():
            print(f"  {known:9} {(command.__doc__ or '').rstrip('.')}")
        return 0 if name else ConfigError.exit_code
    raise ConfigError(f"{PROGRAM} {name}", "unknown", near_miss(name, commands))


def _up(argv: Sequence[str]) -> int:
    """Start a cluster, and keep it running; change one that runs."""
    parser = _parser("up", _up)
    parser.add_argument(
        "--machine",
        metavar="LABEL",
        help="which machine of the file this is (default: the one with the name of this host)",
    )
    add_log_flags(parser)
    args = parser.parse_args(argv)
    open_log(args, "cluster")
    cluster = load(args.file)
    state = State(cluster.state)
    if cluster.config.on_ray:
        return _up_on_ray(args.file, cluster, state, _machine(cluster, args.machine))
    keys.check(cluster)
    if state.runs():
        return _hand_over(args.file, cluster, state)
    _begin(state)
    with run_directory() as directory, logs_kept(directory, PROGRAM):
        return run_alone("cluster", lambda stop: _run_here(cluster, directory, stop))


def _up_on_ray(file: Path, cluster: Cluster, state: State, label: str) -> int:
    """Join this machine; on the head of a cluster that is up, change the cluster."""
    is_head = next(m.head for m in cluster.config.machines if m.label == label)
    keys.check(cluster, label)
    if is_head and ray_up.runs(cluster, label):
        return _hand_over(file, cluster, state)
    if is_head:
        _begin(state)
        state.write_cluster(cluster)
    return run_alone("cluster", lambda stop: ray_up.up(cluster, label, stop, _say))


def _begin(state: State) -> None:
    """Take back an earlier `down`."""
    wishes = state.read_wishes()
    if wishes.down:
        state.write_wishes(replace(wishes, down=""))


def _hand_over(file: Path, cluster: Cluster, state: State) -> int:
    """Let the controller that runs go on with another version of the file."""
    old = state.read_cluster()
    fault = fault_of_change(old, cluster) if old else ""
    if fault:
        remedy = "`down` with the old file, then `up`; or give a new cell a new name"
        raise ConfigError(str(file), fault, remedy)
    if not state.runs():
        reason = "has no controller any more, but `up` still runs on this machine"
        raise ProcessError(str(file), reason, "stop that `up`, then start it again")
    _begin(state)
    state.write_cluster(cluster)
    say("the controller that runs goes on with this file; `status` shows what it does")
    return 0


def _run_here(cluster: Cluster, directory: Path, stop: Stop) -> int:
    cpus, gpus = this_machine()
    machines = [
        Machine(
            machine.label,
            machine.address,
            cpus if machine.cpus is None else machine.cpus,
            gpus if machine.gpus is None else machine.gpus,
            machine.head,
        )
        for machine in cluster.config.machines
    ]
    placement = Local(
        directory,
        cluster.run.supervise,
        machines or [Machine("here", "127.0.0.1", cpus, gpus)],
    )
    stop.serving()
    loop.run(cluster, placement, _say, lambda: stop.asked)
    return 0


def _machine(cluster: Cluster, given: str | None) -> str:
    """Return which machine of the file this is."""
    labels = [machine.label for machine in cluster.config.machines]
    label = given or socket.gethostname()
    if label not in labels:
        reason = "is not a machine of the file" if given else "is not the name of this host"
        raise ConfigError(f"--machine {label}", reason, near_miss(label, labels))
    return label


def _status(argv: Sequence[str]) -> int:
    """Show machines, cells, processes and faults."""
    parser = _parser("status", _status)
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    state = _state(args.file, load(args.file))
    status = state.read_status()
    if status is None:
        raise ConfigError(str(args.file), "was never up", f"`{PROGRAM} up {args.file}`")
    if args.json:
        print(msgspec.json.encode(status).decode())
    else:
        say(*show.lines(status, unix_time(), state.runs()))
    return 0


def _scale(argv: Sequence[str]) -> int:
    """Set how many nodes a service has in each cell."""
    parser = _parser("scale", _scale)
    parser.add_argument(
        "counts", nargs="+", metavar="SERVICE=N", help=f"nodes in each cell; {AUTO}: by load again"
    )
    args = parser.parse_args(argv)
    cluster = load(args.file)
    state = _state(args.file, cluster)
    wishes = state.read_wishes()
    scale = dict(wishes.scale)
    for text in args.counts:
        service, count = _count(cluster, text)
        if count is None:
            scale.pop(service, None)
        else:
            scale[service] = count
        say(f"{service}: {'by load' if count is None else f'{count} in each cell'}")
    state.write_wishes(replace(wishes, scale=scale))
    if not state.runs():
        say("no controller runs; it will hold from the next `up`")
    return 0


def _count(cluster: Cluster, text: str) -> tuple[str, int | None]:
    service, _, number = text.partition("=")
    services = cluster.services()
    if service not in services:
        raise ConfigError(f"service {service!r}", "unknown", near_miss(service, services))
    if number == AUTO:
        return service, None
    if not number.isdecimal() or len(number) > 9 or not 1 <= int(number) <= MOST_NODES:
        raise ConfigError(text, "is not a number of nodes", f"give 1 to {MOST_NODES}, or {AUTO}")
    return service, int(number)


def _down(argv: Sequence[str]) -> int:
    """Drain all cells, then stop everything."""
    parser = _parser("down", _down)
    parser.add_argument("--now", action="store_true", help="do not wait for open calls")
    args = parser.parse_args(argv)
    state = _state(args.file, load(args.file))
    if not state.runs():
        raise ProcessError(str(args.file), "has no running controller", "there is nothing to stop")
    state.write_wishes(replace(state.read_wishes(), down="now" if args.now else "drain"))
    shown = ""
    while state.runs():
        status = state.read_status()
        cells = status.cells if status else ()
        text = "; ".join(f"{cell.name} {cell.state}, {cell.fronts} fronts" for cell in cells)
        if text != shown:
            shown = text
            say(text)
        time.sleep(LOOK_S)
    say("the cluster is down")
    return 0


def _state(file: Path, cluster: Cluster) -> State:
    """Return the state of a cluster; refuse that of another one, which runs."""
    state = State(cluster.state)
    status = state.read_status() if state.runs() else None
    if status is not None and status.cluster != cluster.config.name:
        reason = f"its state folder has the cluster {status.cluster}, which runs"
        raise ConfigError(str(file), reason, "use the file of that cluster, or another folder")
    return state


def _keys(argv: Sequence[str]) -> int:
    """Make the keys that are missing."""
    args = _parser("keys", _keys).parse_args(argv)
    cluster = load(args.file)
    new = keys.make(cluster)
    for path in new:
        say(path)
    if not new:
        say(f"{cluster.keys} is complete")
    else:
        say(
            "copy to the same path: cells/CELL to the machines where the hub of CELL may run,",
            "clients/node.key_secret to those of nodes, clients/input.key_secret to clients.",
            "clients/operator.key_secret and cells/*/hub.key stay with the controller",
        )
    return 0


def _settings(argv: Sequence[str]) -> int:
    """List every setting of cluster.toml, with its default."""
    Parser(f"{PROGRAM} settings", _settings.__doc__).parse_args(argv)
    for key, default, doc in describe_settings(ClusterConfig):
        say(f"{key} = {default}", f"    {doc}")
    return 0


def _parser(name: str, command: Callable[..., int]) -> argparse.ArgumentParser:
    parser = Parser(f"{PROGRAM} {name}", command.__doc__)
    parser.add_argument("file", type=Path, metavar="cluster.toml")
    return parser


def _say(text: str) -> None:
    say(f"{PROGRAM}: {text}", file=sys.stderr)
