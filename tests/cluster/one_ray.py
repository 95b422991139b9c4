"""Ray on this machine, for tests: one head, without dashboard, on the loopback interface."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from abhinaya.models.command_line import version
from abhinaya.stream.cluster import load, ray_settings
from abhinaya.stream.cluster.ray_settings import Here

PORT = 23_700
ADDRESS = "127.0.0.2"
"""Ray takes 127.0.0.1 for a name of the machine, and looks for another address."""

CLUSTER = """
name = "test"
state = "state"
keys = "keys"

[[machines]]
label = "one"
address = "{address}"
head = true
cpus = 1
gpus = 0

[[cells]]
name = "a"
port = 23650

[ray]
port = {port}
ports = [{first}, {last}]
"""


def here(folder: Path, **changes: object) -> Here:
    """Return the machine of a cluster in `folder`, which must have a short path."""
    values = {"address": ADDRESS, "port": PORT, "first": PORT + 1, "last": PORT + 99} | changes
    file = folder / "cluster.toml"
    file.write_text(CLUSTER.format(**values))
    return ray_settings.of(load.load(file), "one", version())


@contextmanager
def short_folder() -> Iterator[Path]:
    """Give a private folder whose path leaves room for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as made:
        yield Path(made)
