"""`abhinaya doctor`: check this machine, and name a remedy for each fault."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from abhinaya.models.command_line import Parser
from abhinaya.models.text import say
from abhinaya.stream.commands.doctor_machine import (
    Finding,
    disk,
    endpoint,
    hub,
    microphone,
    of_error,
    versions,
)
from abhinaya.stream.commands.doctor_trial import trial
from abhinaya.stream.commands.stream import add_keys, keys_of
from abhinaya.stream.errors import AbhinayaError, ConfigError
from abhinaya.stream.settings.config import Config
from abhinaya.stream.settings.environment import add_line_up, load_line_up
from abhinaya.stream.settings.rule_file import with_rules
from abhinaya.stream.sinks.alerts.sink import open_senders

HUB_S: Final = 5.0
PATIENCE_S: Final = 120.0
"""Longest time for the trial run; less if `supervise.ready_s` of the profile is less."""

Check = Callable[[], Iterable[Finding]]


def main(argv: Sequence[str]) -> int:
    """Run the checks and print the findings; return 1 if there is a fault, else 0."""
    args = _parser().parse_args(argv)
    findings = []
    for finding in diagnose(args):
        findings.append(finding)
        if not args.json:
            remedy = [f"         -> {finding.remedy}"] if finding.remedy else []
            say(f"{finding.state:8} {finding.subject}: {finding.detail}", *remedy)
    faults = [f.subject for f in findings if f.state == "fault"]
    if args.json:
        shown = [dataclasses.asdict(f) for f in findings]
        print(json.dumps({"can_run": not faults, "findings": shown}, indent=1))
    else:
        say("", f"cannot run: {', '.join(faults)}" if faults else "ready to run")
    return 1 if faults else 0


def diagnose(args: argparse.Namespace) -> Iterator[Finding]:
    """Run all checks; yield the findings as they come."""
    config: Config | None = None
    try:
        config = with_rules(load_line_up(args), args.rules)
        yield Finding("profile", "ok", config.profile)
    except ConfigError as error:
        yield of_error("profile", error)
    yield from found("packages", versions)
    if config is None:
        yield from found("microphone", partial(microphone, args.mic))
        return
    for subject, check in checks(config, args):
        yield from found(subject, check)


def checks(config: Config, args: argparse.Namespace) -> Iterator[tuple[str, Check]]:
    """Yield the checks that the profile and the flags need, each with its subject."""
    yield "disk", partial(disk, config)
    yield "microphone", partial(microphone, args.mic)
    if config.rules:
        yield "rules", partial(rules, config)
    yield "sockets", partial(endpoint, args.listen, keys_of(args.keys, "hub"))
    if args.hub:  # the models run elsewhere, and a trial would displace the hub's recorder
        yield "hub", partial(hub, args.hub, keys_of(args.keys, args.key_name), HUB_S)
        return
    timeout_s = args.timeout or min(config.supervise.ready_s, PATIENCE_S)
    yield "pipeline", partial(trial, config, args.accept_noncommercial, timeout_s, args.download)


def found(subject: str, check: Check) -> Iterator[Finding]:
    """Yield the findings of a check; an error that it raises becomes a fault."""
    try:
        yield from check()
    except AbhinayaError as error:
        yield of_error(subject, error)
    except Exception as error:  # a broken check must not stop the others
        detail = f"could not be checked: {type(error).__name__}: {error}"
        yield Finding(subject, "fault", detail, "please report it")


def rules(config: Config) -> Iterator[Finding]:
    """Check that the programs and secrets of the alert rules are present.

    Raises:
        ConfigError: some are missing; the message names them all.

    """
    open_senders(config.rules, os.environ)
    yield Finding("rules", "ok", ", ".join(rule.name for rule in config.rules))


def _parser() -> Parser:
    parser = Parser(
        "abhinaya doctor",
        "Check that this machine can run a profile; print what is missing, with remedies.",
        epilog="exit codes: 0 the profile can run, 1 it cannot, 2 wrong usage",
    )
    add_line_up(parser)
    parser.add_argument("--rules", type=Path, metavar="FILE", help="check these alert rules too")
    parser.add_argument("--mic", action="store_true", help="a missing microphone is a fault")
    parser.add_argument("--listen", metavar="ENDPOINT", help="check that a hub can listen here")
    parser.add_argument(
        "--hub", metavar="ENDPOINT", help="check that this hub answers, and expect the models there"
    )
    add_keys(parser)
    parser.add_argument(
        "--accept-noncommercial", action="store_true", help="your use is not commercial"
    )
    parser.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS", help="longest time for the trial run"
    )
    parser.add_argument("--download", action="store_true", help="download missing models")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 86_400:
        raise argparse.ArgumentTypeError(f"{text} s is not between 0 s and one day")
    return value
