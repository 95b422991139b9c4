"""Alerts on their way: behind their verdict, to commands that fail and hang, never waited for."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from fakes import gap, verdict
from output_fakes import said
from rich.console import Console
from scripted_server import Say, scripted

from abhinaya.bench.demo import CALL
from abhinaya.stream.commands import stream as cli
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.settings.rules import Alert, RuleConfig
from abhinaya.stream.sinks.alerts.command import Command
from abhinaya.stream.sinks.alerts.sink import Alerts, open_senders
from abhinaya.stream.sinks.alerts.worker import DeliveryError, Job, Worker
from abhinaya.stream.sinks.jsonl import JsonLines
from abhinaya.stream.sinks.lines import Lines
from abhinaya.stream.wire.messages import Event, Remark


def rule(**changes: Any) -> RuleConfig:
    return RuleConfig(**({"name": "r", "label": "happy", "cool_down_s": 0.0} | changes))


class Notes:
    """A sink that does not know of alerts."""

    def __init__(self) -> None:
        self.seen: list[Event | Alert] = []

    def write(self, event: Event, now_unix_s: float) -> None:
        self.seen.append(event)

    def close(self) -> None:
        raise AssertionError("alerts do not own the sinks")

    @property
    def remarks(self) -> list[Remark]:
        return [e for e in self.seen if isinstance(e, Remark)]


class AlertNotes(Notes):
    def alert(self, alert: Alert, now_unix_s: float) -> None:
        self.seen.append(alert)


class Slow:
    """A sender that delivers when it is let; a stand-in for a hook that hangs."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Event()
        self.delivered: list[bytes] = []

    def deliver(self, job: Job, stop: threading.Event) -> None:
        self.begun.set()
        while not self.go.wait(0.01):
            if stop.is_set():
                raise DeliveryError("was stopped")
        self.delivered.append(job.body)


def until(condition: Any, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


# --- the sink -------------------------------------------------------------------------------------


def test_an_alert_goes_to_the_sinks_that_have_a_place_for_it_and_to_its_senders() -> None:
    shown, plain, mine, others = AlertNotes(), Notes(), Slow(), Slow()
    mine.go.set()
    rules = [rule(name="mine"), rule(name="other", label="sad")]
    alerts = Alerts(rules, [plain, shown], {"mine": [mine], "other": [others]})
    alerts.write(verdict(3), 1.0)
    alerts.write(gap(4), 1.0)
    alerts.close()
    (alert,) = shown.seen
    assert isinstance(alert, Alert)
    assert (alert.rule, alert.sequence) == ("mine", 3)
    assert plain.seen == []
    (body,) = mine.delivered
    event = json.loads(body)
    assert (event["type"], event["rule"], event["segment"]) == ("alert", "mine", 3)
    assert others.delivered == []
    alerts.close()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (DeliveryError("x answered 404"), "an alert was not delivered: x answered 404"),
        (ValueError("ours"), "an alert was not delivered: ValueError: ours"),
    ],
)
def test_what_fails_is_told_as_a_remark_and_the_next_alert_is_tried(
    error: Exception, text: str
) -> None:
    notes = Notes()
    alerts = Alerts([rule()], [notes], {"r": [Mock(deliver=Mock(side_effect=error))]})
    for sequence in range(2):
        alerts.write(verdict(sequence), 1.0)
    alerts.close()
    assert notes.remarks == [Remark(source="rule r", text=text)] * 2


def test_a_sender_that_hangs_holds_up_nobody_and_what_is_dropped_is_counted() -> None:
    slow, quick, notes = Slow(), Slow(), AlertNotes()
    quick.go.set()
    rules = [rule(name="slow"), rule(name="quick")]
    alerts = Alerts(rules, [notes], {"slow": [slow], "quick": [quick]}, patience_s=0.1)
    alerts.write(verdict(0), 1.0)
    assert slow.begun.wait(10)
    begun = time.monotonic()
    for sequence in range(1, 100):
        alerts.write(verdict(sequence), 1.0)
        until(lambda: len(quick.delivered) == sequence + 1)  # noqa: B023 - called at once
    assert time.monotonic() - begun < 5
    alerts.close()
    assert time.monotonic() - begun < 10
    assert slow.delivered == []
    texts = [r.text for r in notes.remarks if r.source == "rule slow"]
    assert texts == [
        "alerts are dropped: 64 wait already",
        "65 alerts were not delivered: the run is over",
        "35 alerts were dropped in all",
    ]
    assert not [r for r in notes.remarks if r.source == "rule quick"]


def test_at_the_end_of_a_run_what_waits_is_still_delivered() -> None:
    slow, told = Slow(), []
    worker = Worker(slow, told.append)
    for i in range(3):
        worker.offer(Job(bytes([i])))
    threading.Timer(0.1, slow.go.set).start()
    worker.close(time.monotonic() + 10)
    assert (slow.delivered, told) == ([bytes([i]) for i in range(3)], [])


@pytest.mark.parametrize("terminal", [True, False])
def test_an_alert_is_shown_with_what_was_said_and_without_markup(
    tmp_path: Path, terminal: bool
) -> None:
    out = io.StringIO()
    lines = Lines(Console(file=out, force_terminal=terminal, width=70, color_system=None))
    transcript = said("[red]\x1b[2Jno", 1, "call")
    log = JsonLines(tmp_path / "events.jsonl")
    alerts = Alerts([rule(name="cheer", for_segments=2)], [lines, log], {})
    for event in (verdict(0, end=16_000), verdict(1, end=40_000, transcript=transcript)):
        for sink in (log, alerts):
            sink.write(event, 1_000_001.0)
    log.close()
    written = (tmp_path / "events.jsonl").read_text("utf-8").splitlines()
    kinds = [json.loads(line)["type"] for line in written]
    assert kinds == ["verdict", "verdict", "alert", "summary"], "it stands below its verdict"
    text = " ".join(out.getvalue().split())
    assert "alert cheer: call happy at 0:00:02.5 (2 segments, 2.5 s, 65%)" in text
    assert "[red]" in text
    assert "\x1b[2J" not in text


# --- commands -------------------------------------------------------------------------------------


def script(tmp_path: Path, text: str) -> tuple[str, ...]:
    path = tmp_path / "action.py"
    path.write_text(text, "utf-8")
    return (sys.executable, str(path), "$HOME; echo *")


def fails(command: Command, stop: threading.Event | None = None) -> str:
    with pytest.raises(DeliveryError) as error:
        command.deliver(Job(b"{}"), stop or threading.Event())
    return str(error.value)


def test_a_command_gets_the_event_on_its_standard_input_and_its_arguments_untouched(
    tmp_path: Path,
) -> None:
    text = f"import sys; open({str(tmp_path / 'got')!r}, 'w').write(sys.argv[1] + sys.stdin.read())"
    Command(script(tmp_path, text), 10.0).deliver(Job(b'{"a": 1}'), threading.Event())
    assert (tmp_path / "got").read_text() == '$HOME; echo *{"a": 1}'
    # it may also leave its input unread
    Command(script(tmp_path, "pass"), 10.0).deliver(Job(b"x" * 1_000_000), threading.Event())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "import sys; print('x' * 9999, 'no\\nsuch desk', file=sys.stderr); sys.exit(3)",
            "left with 3: such desk",
        ),
        ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
    ],
)
def test_a_command_that_fails_is_quoted(tmp_path: Path, text: str, said: str) -> None:
    assert fails(Command(script(tmp_path, text), 10.0)).endswith(said)
    assert "cannot be started: No such file" in fails(Command(("/no/such/program",), 1.0))


HANG = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(sys.argv[0] + ".pids", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.rename(sys.argv[0] + ".pids", sys.argv[0] + ".done")
time.sleep(600)
"""


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


@pytest.mark.parametrize("way", ["time limit", "end of the run"])
def test_a_command_that_hangs_is_killed_with_what_it_has_started(tmp_path: Path, way: str) -> None:
    stop, pids = threading.Event(), tmp_path / "action.py.done"
    if way == "end of the run":
        threading.Thread(target=lambda: (until(pids.exists), stop.set()), daemon=True).start()
    timeout_s = 3.0 if way == "time limit" else 60.0
    begun = time.monotonic()
    assert "was killed after" in fails(Command(script(tmp_path, HANG), timeout_s), stop)
    assert time.monotonic() - begun < 20
    both = [int(pid) for pid in pids.read_text().split()]
    assert len(both) == 2
    until(lambda: all(gone(pid) for pid in both))


# --- what is missing is said before anything starts -----------------------------------------------


def test_missing_programs_and_secrets_are_told_at_once() -> None:
    hook = "http://127.0.0.1:9/x"
    rules = [
        rule(name="a", command=("no-such-program",)),
        rule(name="b", webhook=hook, webhook_secret_env="UNSET"),
        rule(name="c", webhook=hook, webhook_secret_env="ODD"),
        rule(name="d", command=("sh", "-c", "true"), webhook=hook, webhook_secret_env="GOOD"),
    ]
    environment = {"PATH": os.defpath, "ODD": "whsec_!", "GOOD": "x"}
    with pytest.raises(ConfigError) as error:
        open_senders(rules, environment)
    assert error.value.reason.split("; ") == [
        "a: the program is missing: 'no-such-program'",
        "b: the variable UNSET holds no secret",
        "c: the secret in ODD is not base64 behind whsec_",
    ]
    senders = open_senders(rules[3:], environment)
    assert [len(those) for those in senders.values()] == [2]


@pytest.mark.slow
@pytest.mark.processes
def test_a_call_raises_alerts_by_a_file_of_rules(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real processes, a real server that hangs on the first alert, and a command that fails."""
    monkeypatch.setenv("HOOK_SECRET", "s")
    with scripted(lambda i, request: Say(wait_s=60.0 * (i == 0))) as server:
        rules = tmp_path / "rules.toml"
        rules.write_text(
            f"""
            [[rules]]
            name = "agent"
            label = "neutral"
            cool_down_s = 0
            webhook = "{server.url}"
            webhook_secret_env = "HOOK_SECRET"
            webhook_timeout_s = 0.5
            command = ["sh", "-c", "echo busy >&2; exit 1"]
            """
        )
        assert (
            cli.main([str(CALL), "--channels", "mix", "--rules", str(rules), "--format", "jsonl"])
            == 0
        )
        events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    neutral = [e["segment"] for e in events if e["type"] == "verdict" and e["label"] == "neutral"]
    posted = [request["segment"] for request in server.requests]
    assert [e["segment"] for e in events if e["type"] == "alert"] == neutral
    assert sorted(set(posted)) == neutral
    assert posted.count(neutral[0]) == 2  # it was tried again
    remarks = {e["text"] for e in events if e["type"] == "remark"}
    assert remarks == {"an alert was not delivered: sh left with 1: busy"}
    assert events[-1]["type"] == "summary"


def test_a_fault_in_the_rules_is_told_before_anything_is_opened(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rules, output = tmp_path / "rules.toml", tmp_path / "kept.jsonl"
    output.write_text("kept")
    for rule, words in (
        ('label = "angri"', "did you mean 'angry'?"),
        ('label = "angry"\ncommand = ["no-such-program"]', "no-such-program"),
    ):
        rules.write_text(f'[[rules]]\nname = "a"\n{rule}\n')
        assert cli.main([str(CALL), "--rules", str(rules), "--output", str(output)]) == 2
        assert words in capfd.readouterr().err
    assert output.read_text() == "kept"
