"""A sink that checks events by the alert rules and passes alerts to other sinks and senders."""

from __future__ import annotations

import queue
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from abhinaya.models.interrupts import INTERRUPTS
from abhinaya.models.text import to_json
from abhinaya.stream.clock import unix_time
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.settings.rules import RuleConfig, Watch
from abhinaya.stream.sinks.alerts.command import Command
from abhinaya.stream.sinks.alerts.webhook import Webhook, secret_of
from abhinaya.stream.sinks.alerts.worker import AlertSender, Job, Worker
from abhinaya.stream.sinks.base import ShowsAlerts, Sink
from abhinaya.stream.sinks.events import alert_event
from abhinaya.stream.wire.messages import Event, Remark

PATIENCE_S: Final = 5.0
"""Seconds that deliveries may take at the end of a run."""


class Alerts:
    """Raises alerts. It must be the last sink, so that an alert follows its verdict.

    Args:
        rules: the alert rules.
        sinks: get the alerts, if they show them, and a remark on each failed delivery.
        senders: senders of the alerts of each rule, by its name.
        patience_s: seconds that deliveries may take at the end.

    Every method raises SinkError if one of the sinks does.

    """

    def __init__(
        self,
        rules: Sequence[RuleConfig],
        sinks: Sequence[Sink],
        senders: Mapping[str, Sequence[AlertSender]],
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._watch = Watch(rules)
        self._sinks = sinks
        self._patience_s = patience_s
        self._reports: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._workers = {
            name: [Worker(sender, self._reporter(name)) for sender in those]
            for name, those in senders.items()
        }

    def write(self, event: Event, now_unix_s: float) -> None:
        """Check one event, and send the alerts that it raises."""
        self._publish_reports(now_unix_s)
        for alert in self._watch.see(event):
            for sink in self._sinks:
                if isinstance(sink, ShowsAlerts):
                    sink.alert(alert, now_unix_s)
            if workers := self._workers.get(alert.rule):
                job = Job(to_json(alert_event(alert)))
                for worker in workers:
                    worker.offer(job)

    def close(self) -> None:
        """Wait up to `patience_s` for deliveries, less after a signal; report unfinished ones.

        The sinks stay open.
        """
        deadline = time.monotonic() + INTERRUPTS.left_s(self._patience_s)
        workers = [worker for those in self._workers.values() for worker in those]
        self._workers = {}
        for worker in workers:
            worker.close(deadline)
        self._publish_reports(unix_time())

    def _reporter(self, rule: str) -> Callable[[str], None]:
        return lambda text: self._reports.put((rule, text))

    def _publish_reports(self, now_unix_s: float) -> None:
        """Write the new reports of the workers to the sinks, as remarks."""
        while not self._reports.empty():
            rule, text = self._reports.get()
            for sink in self._sinks:
                sink.write(Remark(source=f"rule {rule}", text=text), now_unix_s)


def open_senders(
    rules: Sequence[RuleConfig], environment: Mapping[str, str]
) -> dict[str, list[AlertSender]]:
    """Return the senders of the alerts of each rule, by its name.

    Raises:
        ConfigError: names every missing program and secret at once.

    """
    faults: list[str] = []
    senders = {rule.name: list(_senders(rule, environment, faults)) for rule in rules}
    if faults:
        raise ConfigError("rules", "; ".join(faults), "see docs/rules.md")
    return senders


def _senders(
    rule: RuleConfig, environment: Mapping[str, str], faults: list[str]
) -> Iterator[AlertSender]:
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
