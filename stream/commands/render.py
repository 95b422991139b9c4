"""`abhinaya cluster render`: a cluster.toml as values of the Helm chart.

On Kubernetes each hub has an address of its own, so the ports of cells are not needed; nor are the
addresses of machines. A label of a machine is the value of the label `abhinaya-machine` of a node.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from abhinaya.models.catalogue import CATALOGUE
from abhinaya.models.command_line import Parser
from abhinaya.models.errors import near_miss
from abhinaya.models.text import one_line
from abhinaya.models.toml import inline
from abhinaya.stream.clock import unix_time
from abhinaya.stream.cluster.config import Cluster, Service
from abhinaya.stream.cluster.keys import cell_keys, client_keys, public_key
from abhinaya.stream.cluster.load import leaves, load
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.settings.config import workers_of
from abhinaya.stream.settings.profile import profiles

CREATE: Final = "kubectl create secret generic"


def main(argv: Sequence[str]) -> int:
    """Print the cluster as values of the Helm chart."""
    parser = Parser("abhinaya cluster render", main.__doc__)
    parser.add_argument("file", type=Path, metavar="cluster.toml")
    parser.add_argument(
        "--helm", action="store_true", required=True, help="the chart of docs/deploy.md"
    )
    parser.add_argument(
        "--drain",
        action="append",
        default=[],
        metavar="CELL",
        help="let this cell finish its calls and take no new ones; repeatable",
    )
    args = parser.parse_args(argv)
    # seconds since 1970 grow with each call, as the number of a map must
    print(helm_values(load(args.file), int(unix_time()), args.drain), end="")
    return 0


def helm_values(cluster: Cluster, epoch: int, draining: Collection[str] = ()) -> str:
    """Return values.yaml of the chart; each value is JSON, which YAML contains.

    Args:
        cluster: the cluster.
        epoch: number of the map of cells; must grow with each call.
        draining: names of cells that get no new calls.

    Raises:
        ConfigError: the cluster has no keys, or no cell has such a name.
        NetworkError: a public key is missing.

    """
    if cluster.keys is None:
        raise ConfigError("keys", "is not set, and Kubernetes is a network", 'write keys = "KEYS"')
    names = [cell.name for cell in cluster.config.cells]
    for name in draining:
        if name not in names:
            raise ConfigError(f"--drain {name}", "is not a cell", near_miss(name, names))
    return "\n".join([*_comments(cluster, cluster.keys), *_values(cluster, epoch, draining), ""])


def _comments(cluster: Cluster, keys: Path) -> Iterator[str]:
    yield f"# Values of deploy/helm/abhinaya for the cluster {one_line(cluster.config.name)}."
    yield "# Made by `abhinaya cluster render`: change the cluster's file, not this one."
    yield "# Its Secrets, each from the keys of one role:"
    for cell in cluster.config.cells:
        folder = one_line(shlex.quote(str(cell_keys(keys, cell.name))))
        yield f"#   {CREATE} abhinaya-hub-{cell.name} --from-file={folder}"
    for role in ("node", "input", "reader"):
        file = one_line(shlex.quote(str(client_keys(keys) / f"{role}.key_secret")))
        yield f"#   {CREATE} abhinaya-{role} --from-file={file}"
    for name, service in cluster.services().items():
        if service.gpus != int(service.gpus):
            yield (
                f"# {name}: Kubernetes shares no GPU: {math.ceil(service.gpus)} in place of "
                f"{service.gpus:g}, unless its plug-in offers parts."
            )


def _values(cluster: Cluster, epoch: int, draining: Collection[str]) -> Iterator[str]:
    config = cluster.config
    if config.profile in profiles():
        yield _line("profile", config.profile)
    else:
        yield _line("profile", "file")
        yield _line("profileFile", Path(config.profile).read_text("utf-8"))
    yield _line(
        "settings", [f"{key}={inline(value)}" for key, value in leaves(config.settings, "")]
    )
    yield _line("epoch", epoch)
    yield "cells:"
    for cell in config.cells:
        state = "draining" if cell.name in draining else "open"
        entry = {"name": cell.name, "key": public_key(cluster, cell.name), "state": state}
        yield "- " + _json(entry | _machines(cell.machines))
    yield _line("hub", {"cpus": max(cell.hub_cpus for cell in config.cells)})
    yield "services:"
    for name, service in cluster.services().items():
        if service.maximum:
            yield f"  {_line(_json(name), _service(cluster, service))}"
    yield _line("scaling", {"age": config.scaling.up_s, "down": round(config.scaling.down_s)})


def _service(cluster: Cluster, service: Service) -> dict[str, Any]:
    workers = workers_of(cluster.run)
    models = {workers[name].model for name in service.gives if name != "asr"}
    light = {name for name, entry in CATALOGUE.items() if not entry.code.startswith("published.")}
    return {
        "minimum": service.minimum,
        "maximum": service.maximum,
        "gives": service.gives,
        "cpus": service.cpus,
        "gpus": math.ceil(service.gpus),
        "torch": bool(service.gpus) or not models <= light,
    } | _machines(service.machines)


def _machines(labels: tuple[str, ...]) -> dict[str, Any]:
    return {"machines": labels} if labels else {}


def _line(key: str, value: Any) -> str:
    return f"{key}: {_json(value)}"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
