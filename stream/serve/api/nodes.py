"""The nodes: what each said last, so that a reader who comes later knows them too."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.routing import BaseRoute

from abhinaya.stream.serve.api.endpoint import Ask, Endpoint, Operation
from abhinaya.stream.serve.app import Gateway


class Nodes(msgspec.Struct, frozen=True):
    """Events `node_up` and `node_down` of docs/events.md: the last of each node and service."""

    nodes: list[dict[str, Any]]


def routes(gateway: Gateway) -> list[BaseRoute]:
    """Return the route of the nodes."""

    async def listed(_: Ask) -> Nodes:
        return Nodes(gateway.board.nodes())

    operation = Operation("List the nodes that are ready or have failed", answer=Nodes)
    return [Endpoint("GET", "/v1/nodes", gateway.access, operation, listed)]
