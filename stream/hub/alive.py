"""Signs of life of the nodes: which are silent, and which are too long in one batch. Pure.

If somebody supervises the processes, they only are suspected here: the supervisor sees whether such
a process starves, and ends it if not. Else the hub decides, by what the heartbeats say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from abhinaya.stream.hub.nodes import Limits, Node
from abhinaya.stream.hub.watch import Sample, Suspicion
from abhinaya.stream.wire.messages import Suspect


class Alive:
    """The nodes of a hub, by name, and their limits."""

    def __init__(self, nodes: Mapping[str, Node], limits: Limits) -> None:
        self._nodes = nodes
        self._limits = limits

    def beat(self, now: float, node: Node, age_s: float | None, cpu_s: float | None) -> str:
        """Handle a heartbeat with age and processor time of the batch; return why it must go."""
        if node.silent:
            node.silent, node.suspicion = False, None
        node.last_received = now
        if age_s is None or age_s <= self._limits.task_s:
            node.suspicion = None
            return ""
        reason = f"has been stuck for {age_s:.1f} s in one batch"
        if node.suspicion is None:
            node.suspicion = Suspicion(reason, self._limits.task_s, cpu_s or 0.0)
        look = None if cpu_s is None else Sample(now, cpu_s)
        gone = not self._limits.supervised and node.suspicion.judge(look).deadly
        return reason if gone else ""

    def silent(self, now: float) -> list[tuple[str, str]]:
        """Return (node, reason) for the nodes that must go because of their silence."""
        gone = []
        for node in self._nodes.values():
            silent_s = now - node.last_received
            if silent_s <= self._limits.silent_s or node.silent:
                continue
            reason = f"has been silent for {silent_s:.1f} s"
            if self._limits.supervised:
                node.silent, node.suspicion = True, Suspicion(reason, self._limits.silent_s)
            else:
                gone.append((node.name, reason))
        return gone

    def paused(self, seconds: float) -> None:
        """Note that the hub itself did not run: nobody was silent meanwhile."""
        for node in self._nodes.values():
            node.last_received += seconds

    def suspects(self) -> Iterator[Suspect]:
        """Yield the nodes that may be stuck, for the one who watches their processes."""
        for node in self._nodes.values():
            if (why := node.suspicion) is not None:
                yield Suspect(
                    name=node.name,
                    incarnation=node.incarnation,
                    reason=why.reason,
                    limit_s=why.limit_s,
                    used_s=why.used_s,
                )
