"""The command: which checks, in which order, and how their findings are shown."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from abhinaya.stream.commands.doctor.connectivity import endpoint, hub
from abhinaya.stream.commands.doctor.finding import Check, Finding, found, of_error
from abhinaya.stream.commands.doctor.machine import disk, gpu, microphone, versions
from abhinaya.stream.commands.doctor.models import model, services
from abhinaya.stream.commands.doctor.pipeline import pipeline
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.settings.config import Config
from abhinaya.stream.settings.environment import add_line_up, load_line_up
from abhinaya.stream.settings.rule_file import with_rules
from abhinaya.stream.sinks.alerts.sink import open_couriers
from abhinaya.stream.wire.sockets import Keys

HUB_S: Final = 5.0
PATIENCE_S: Final = 120.0
"""For loading a model, or for the pipeline, where the profile does not allow itself less."""


def main(argv: Sequence[str]) -> int:
    """Run the checks; give 1 if one of them found a fault."""
    args = _parser().parse_args(argv)
    findings = []
    for finding in diagnose(args):
        findings.append(finding)
        if not args.json:
            print(as_lines(finding), flush=True)
    faults = [f for f in findings if f.state == "fault"]
    if args.json:
        shown = [dataclasses.asdict(f) for f in findings]
        print(json.dumps({"can_run": not faults, "findings": shown}, indent=1))
    elif faults:
        print(f"\ncannot run: {', '.join(f.subject for f in faults)}")
    else:
        print("\nready to run")
    return 1 if faults else 0


def diagnose(args: argparse.Namespace) -> Iterator[Finding]:
    """Yield what all checks find, as they find it."""
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
    faulty = False
    for subject, check in checks(config, args):
        for finding in found(subject, check):
            yield finding
            faulty |= finding.state == "fault"
    if args.hub:  # the models are elsewhere, and a recorder is not to be driven away by a test
        return
    if faulty:
        remedy = "mend the faults above first"
        yield Finding("pipeline", "warning", "was not tried", remedy)
    else:
        yield from found(
            "pipeline",
            partial(pipeline, config, args.accept_noncommercial, *_terms(config, args)),
        )


def checks(config: Config, args: argparse.Namespace) -> Iterator[tuple[str, Check]]:
    """Yield the checks that this profile and these flags call for."""
    keys = Keys(args.keys, args.key_name) if args.keys else None
    yield "disk", partial(disk, config)
    yield "microphone", partial(microphone, args.mic)
    if config.rules:
        yield "rules", partial(rules, config)
    yield "sockets", partial(endpoint, args.listen, Keys(args.keys, "hub") if args.keys else None)
    if args.hub:
        yield "hub", partial(hub, args.hub, keys, HUB_S)
        return
    yield "gpu", partial(gpu, config, args.gpu)
    for service, _ in services(config):
        yield f"model {service}", partial(model, config, service, *_terms(config, args))


def rules(config: Config) -> Iterator[Finding]:
    """Look for the programs and secrets of the rules.

    Raises:
        ConfigError: names all that are missing.

    """
    open_couriers(config.rules, os.environ)
    yield Finding("rules", "ok", ", ".join(rule.name for rule in config.rules))


def as_lines(finding: Finding) -> str:
    """Give a finding as a line, and its remedy as another."""
    line = f"{finding.state:8} {finding.subject}: {finding.detail}"
    return line + (f"\n         -> {finding.remedy}" if finding.remedy else "")


def _terms(config: Config, args: argparse.Namespace) -> tuple[float, bool]:
    """Give how long a check may take, and whether it may download."""
    return args.timeout or min(config.supervise.ready_s, PATIENCE_S), args.download


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="abhinaya doctor",
        description="Say what this machine lacks for a profile, and what to do about it.",
        epilog="exit codes: 0 the profile can run, 1 it cannot, 2 wrong usage",
    )
    add_line_up(parser)
    parser.add_argument("--rules", type=Path, metavar="FILE", help="look at these rules too")
    parser.add_argument("--mic", action="store_true", help="a missing microphone is a fault")
    parser.add_argument("--gpu", action="store_true", help="also ask torch for GPUs, in seconds")
    parser.add_argument("--listen", metavar="ENDPOINT", help="can a hub listen here?")
    parser.add_argument(
        "--hub", metavar="ENDPOINT", help="does this hub answer? Models are looked for there"
    )
    parser.add_argument("--keys", type=Path, metavar="DIRECTORY", help="CURVE keys")
    parser.add_argument("--key-name", default="client", help="which of them is this machine's")
    parser.add_argument("--accept-noncommercial", action="store_true", help="your use is none")
    parser.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS", help="for each model and the pipeline"
    )
    parser.add_argument("--download", action="store_true", help="get models that are missing")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 86_400:
        raise argparse.ArgumentTypeError(f"{text} is no time to wait")
    return value
