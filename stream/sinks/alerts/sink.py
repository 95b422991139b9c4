"""The rules at work: a sink that looks at events and alerts the other sinks and the couriers."""

from __future__ import annotations

import queue
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from abhinaya.stream.errors import ConfigError
from abhinaya.stream.settings.rules import RuleConfig, Watch
from abhinaya.stream.sinks.alerts.command import Command
from abhinaya.stream.sinks.alerts.webhook import Webhook, secret_of
from abhinaya.stream.sinks.alerts.worker import Courier, Job, Worker
from abhinaya.stream.sinks.base import ShowsAlerts, Sink
from abhinaya.stream.sinks.events import alert_event
from abhinaya.stream.wire.messages import Event, Remark

PATIENCE_S: Final = 5.0
"""How long deliveries may take when the run is over."""


class Alerts:
    """Comes behind the other sinks, so that an alert stands below the verdict that raised it.

    Args:
        rules: when to raise one.
        sinks: get alerts if they show them, and remarks on deliveries that fail.
        couriers: who delivers the alerts of a rule, by its name.
        patience_s: how long deliveries may take at the end.

    Every method raises SinkError if one of the sinks does.

    """

    def __init__(
        self,
        rules: Sequence[RuleConfig],
        sinks: Sequence[Sink],
        couriers: Mapping[str, Sequence[Courier]],
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._watch = Watch(rules)
        self._sinks = sinks
        self._patience_s = patience_s
        self._said: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._workers = {
            name: [Worker(courier, self._listener(name)) for courier in those]
            for name, those in couriers.items()
        }

    def write(self, event: Event, now_unix_s: float) -> None:
        """Look at one event; raise the alerts that it completes."""
        self._pass_on(now_unix_s)
        for alert in self._watch.see(event):
            for sink in self._sinks:
                if isinstance(sink, ShowsAlerts):
                    sink.alert(alert, now_unix_s)
            if workers := self._workers.get(alert.rule):
                job = Job(msgspec.json.encode(alert_event(alert)))
                for worker in workers:
                    worker.offer(job)

    def close(self) -> None:
        """Let deliveries finish for a while, and report those that did not. The sinks stay open."""
        deadline = time.monotonic() + self._patience_s
        workers = [worker for those in self._workers.values() for worker in those]
        self._workers = {}
        for worker in workers:
            worker.close(deadline)
        self._pass_on(time.time())

    def _listener(self, rule: str) -> Callable[[str], None]:
        return lambda text: self._said.put((rule, text))

    def _pass_on(self, now_unix_s: float) -> None:
        """Report what the workers have said since."""
        while not self._said.empty():
            rule, text = self._said.get()
            for sink in self._sinks:
                sink.write(Remark(source=f"rule {rule}", text=text), now_unix_s)


def open_couriers(
    rules: Sequence[RuleConfig], environment: Mapping[str, str]
) -> dict[str, list[Courier]]:
    """Return who delivers the alerts of each rule.

    Raises:
        ConfigError: names every program and secret that is missing, at once.

    """
    faults: list[str] = []
    couriers = {rule.name: list(_couriers(rule, environment, faults)) for rule in rules}
    if faults:
        raise ConfigError("rules", "; ".join(faults), "see docs/rules.md")
    return couriers


def _couriers(
    rule: RuleConfig, environment: Mapping[str, str], faults: list[str]
) -> Iterator[Courier]:
    if rule.command:
        if shutil.which(rule.command[0], path=environment.get("PATH")) is None:
            faults.append(f"{rule.name}: the program is missing: {rule.command[0]!r}")
        yield Command(rule.command, rule.command_timeout_s)
    if rule.webhook:
        secret = b""
        if variable := rule.webhook_secret_env:
            try:
                secret = secret_of(environment.get(variable, ""))
            except ValueError as error:
                faults.append(f"{rule.name}: the secret in {variable} {error}")
            else:
                if not secret:
                    faults.append(f"{rule.name}: the variable {variable} holds no secret")
        yield Webhook(rule.webhook, secret, rule.webhook_timeout_s, rule.webhook_attempts)
