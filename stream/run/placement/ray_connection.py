"""The connection of a process to Ray, whose errors become ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import ray
from ray.exceptions import RayError

from abhinaya.models.text import one_line
from abhinaya.stream.errors import NetworkError

STARTED_S: Final = 60.0
"""Seconds in which an actor that needs no room must answer."""


def connect(address: str, directory: Path, node_address: str) -> None:
    """Connect this process to Ray on this machine; its environment has the token.

    Raises:
        NetworkError: Ray does not answer.

    """
    with speaking():
        ray.init(
            address=address,
            log_to_driver=False,
            configure_logging=False,
            _temp_dir=str(directory),
            _node_ip_address=node_address,
        )


def make_one(
    kind: type, namespace: str, name: str, labels: Mapping[str, str], *arguments: object
) -> None:
    """Make a detached actor if there is none of this name; end others of its namespace.

    Raises:
        NetworkError: Ray does not answer.

    """
    with speaking():
        for found in ray.util.list_named_actors(all_namespaces=True):
            if found["namespace"] == namespace and found["name"] != name:
                ray.kill(ray.get_actor(found["name"], namespace))
        make: Any = ray.remote(kind).options(
            name=name,
            namespace=namespace,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
            label_selector=dict(labels),
        )
        ray.get(make.remote(*arguments).ready.remote(), timeout=STARTED_S)


def leave() -> None:
    """Let go of Ray; an actor ends, and is not started again."""
    context = ray.get_runtime_context()
    if context.get_actor_id() is not None:
        ray.kill(context.current_actor)
    ray.shutdown()


def namespace(cluster: str) -> str:
    """Return the first part of the namespaces of a cluster's actors."""
    return f"abhinaya/{cluster}"


@contextmanager
def speaking() -> Iterator[None]:
    """Turn Ray's own errors into ours.

    Raises:
        NetworkError: Ray does not answer.

    """
    try:
        yield
    except (RayError, ConnectionError, RuntimeError) as error:
        raise NetworkError("Ray", f"does not answer: {short(error)}", "is the head up?") from error


def short(error: Exception) -> str:
    """Return the beginning of an error of Ray, in one line."""
    return one_line(str(error))[:200]
