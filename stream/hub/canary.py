"""Sends a known second of speech to each node from time to time, and compares the answers.

A model can go wrong while its process lives on: memory, a driver, a changed file. Its answers then
still come in time and look like answers. So each service must give for the recording what its card
says, or what the same model gave before on any node. A node that answers otherwise, or not at all,
is taken out.

Pure. The tasks are not part of a stream: they use no credits, and no sink hears of them. Services
without a trial (`Service.trial_ms`) are not asked: they are on a server that may cost money.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from abhinaya.models.labels import ATTRIBUTES, HIGH, LOW
from abhinaya.models.trial import SENTENCE, TOLERANCE, difference, recording
from abhinaya.stream.clock import INT16_FULL_SCALE, SAMPLE_RATE
from abhinaya.stream.hub.nodes import Node
from abhinaya.stream.hub.validation import TRANSCRIBER, service_of
from abhinaya.stream.wire.messages import Failed, Payload, Service, Task, Transcript, Vote

CANARY: Final = "\x1fcanary"
"""Stream of the tasks: no name of a real stream begins with a control character."""

MAX_KNOWN: Final = 100
"""Number of models whose answers are remembered."""

Answer = Transcript | Vote | Failed


@dataclass(slots=True)
class _Asked:
    """The latest tasks of one node."""

    incarnation: str
    at: float
    open: set[str]
    """Services that have not answered yet."""


class Canary:
    """The checks of all nodes.

    Args:
        every_s: seconds between two checks of a node; 0 for no checks.
        late_s: seconds after which a missing answer counts as a fault.

    """

    def __init__(self, every_s: float, late_s: float) -> None:
        self._every_s, self._late_s = every_s, late_s
        self._asked: dict[str, _Asked] = {}
        """By node."""
        self._known: dict[tuple[str, str, str], Answer] = {}
        """By service, model and version: the first answer."""
        self._sequence = 0

    def tasks(self, now: float, nodes: Iterable[Node]) -> Iterator[tuple[str, Task]]:
        """Yield (node, task) for the nodes that are due; a busy node may wait one more turn."""
        for node in nodes if self._every_s else ():
            last = self._asked.get(node.name)
            if last is None or last.incarnation != node.incarnation:
                # it has just had its trial
                self._asked[node.name] = _Asked(node.incarnation, now, set())
                node.right = {s.name: now for s in node.gives.values() if s.trial_ms is not None}
                continue
            waited = now - last.at
            if last.open or waited < self._every_s or (node.held and waited < 2 * self._every_s):
                continue
            services = {s.name for s in node.gives.values() if s.trial_ms is not None}
            self._asked[node.name] = _Asked(node.incarnation, now, set(services))
            # the words are given to the voters: a task that requests them contains none
            for group in (services & {TRANSCRIBER}, services - {TRANSCRIBER}):
                if group:
                    self._sequence += 1
                    yield node.name, _task(self._sequence, tuple(sorted(group)))

    def answered(self, now: float, node: Node, answer: Answer) -> str:
        """Return what is wrong with an answer to one of the tasks; empty if nothing is."""
        service = service_of(answer)
        asked = self._asked.get(node.name)
        if asked is None or service not in asked.open:
            return ""
        asked.open.discard(service)
        fault = self._fault(node.gives[service], answer)
        if not fault:
            node.right[service] = now
        return fault

    def _fault(self, of: Service, answer: Answer) -> str:
        if isinstance(answer, Failed) and answer.retry:
            return f"{of.name} failed on the test recording: {answer.reason}"
        by_card = of.trial and isinstance(answer, Vote) and answer.probabilities
        if by_card and (fault := difference(of.trial, by_card)):
            return f"{of.name}: {fault}"
        known = self._known.setdefault((of.name, of.model, of.version), answer)
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]
        fault = _rated_otherwise(known, answer) or ("" if by_card else _difference(known, answer))
        return f"{of.name}: {fault}" if fault else ""

    def late(self, now: float, nodes: Iterable[Node]) -> Iterator[tuple[str, str]]:
        """Yield (node, reason) for the nodes that did not answer in time; forget dead nodes."""
        alive = {node.name: node for node in nodes}
        for name, asked in list(self._asked.items()):
            node = alive.get(name)
            if node is None or node.incarnation != asked.incarnation:
                del self._asked[name]
            elif node.suspicion is not None:  # it may only starve: others decide, see `watch.py`
                asked.at = now
            elif asked.open and now - asked.at > self._late_s:
                missing = ", ".join(sorted(asked.open))
                yield name, f"{missing} did not answer the test recording for {self._late_s:.0f} s"


def _task(sequence: int, services: tuple[str, ...]) -> Task:
    return Task(
        stream=CANARY,
        sequence=sequence,
        services=services,
        start=0,
        end=SAMPLE_RATE,
        samples=Payload.of(np.round(recording() * INT16_FULL_SCALE).astype(np.int16)),
        transcript=None if TRANSCRIBER in services else SENTENCE,
        language="" if TRANSCRIBER in services else "en",
    )


def _difference(known: Answer, answer: Answer) -> str:
    if isinstance(known, Vote) and isinstance(answer, Vote):
        if known.probabilities and answer.probabilities:
            return difference(known.probabilities, answer.probabilities)
        if known.label != answer.label:
            return f"it says {answer.label} to the test recording, and said {known.label} before"
        return ""
    if isinstance(known, Transcript) and isinstance(answer, Transcript):
        before, now = known.text.lower().split(), answer.text.lower().split()
        same = len(set(before) & set(now))
        if 2 * same < max(len(set(before)), len(set(now))):
            return f"it reads {answer.text!r} from the test recording, and read {known.text!r}"
        return ""
    if type(known) is not type(answer):
        return f"{type(answer).__name__} to the test recording, {type(known).__name__} before"
    return ""


def _rated_otherwise(known: Answer, answer: Answer) -> str:
    before, now = (one.attributes if isinstance(one, Vote) else None for one in (known, answer))
    if before and now:
        return difference(before, now, ATTRIBUTES, (HIGH - LOW) * TOLERANCE)
    differ = type(known) is type(answer) and before != now
    return f"it rates the test recording {now}, and {before} before" if differ else ""
