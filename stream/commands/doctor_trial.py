"""The doctor's trial: run the real monitor, with all processes, on a second of speech."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from abhinaya.models.toml import as_toml
from abhinaya.models.trial import recording
from abhinaya.stream.clock import INT16_FULL_SCALE, SAMPLE_RATE
from abhinaya.stream.commands.doctor_machine import Finding
from abhinaya.stream.settings.config import Config
from abhinaya.stream.settings.environment import PROFILE, is_setting

OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
"""Environment of a trial without `--download`."""
STOP_S: Final = 10.0
"""Longest time for an interrupted monitor to end in order."""
MORE_TIME: Final = "give it more time (--timeout), or take smaller models"
REPORT: Final = "please report it"
_NO_MODEL: Final = re.compile(r"(?:! |abhinaya-stream: )(\S+) \((.+?)\): (.+)")
"""The monitor's message if a service cannot load its model: service, model, error."""


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a run of the monitor."""

    code: int | None
    """Exit code; None after a time-out."""
    output: bytes
    errors: list[str]
    """Lines of standard error that are not empty."""


def trial(config: Config, accept: bool, timeout_s: float, download: bool) -> Iterator[Finding]:
    """Run the monitor on a second of speech; yield a finding for each model and for the run."""
    with tempfile.TemporaryDirectory(prefix="abhinaya-doctor-") as folder:
        sound, profile = Path(folder, "second.wav"), Path(folder, "profile.toml")
        write_sound(sound)
        # no rules: a test must not send alerts; and the deadline of a vote comes before the
        # time-out of the trial, so that a voter without an answer is named
        patience = min(config.deadlines.file_s, timeout_s / 2)
        deadlines = dataclasses.replace(config.deadlines, file_s=patience)
        tried = dataclasses.replace(config, rules=(), deadlines=deadlines)
        profile.write_text(as_toml("abhinaya doctor", tried, {}), "utf-8")
        arguments = [str(sound), "--profile", str(profile), "--format", "jsonl"]
        arguments += ["--accept-noncommercial"] if accept else []
        begun = time.monotonic()
        outcome = run_monitor(arguments, timeout_s, download)
        took_s = time.monotonic() - begun
    yield from judge(outcome, took_s, download)


def run_monitor(arguments: Sequence[str], timeout_s: float, download: bool) -> Outcome:
    """Run `abhinaya-stream` without settings in the environment, because its profile has them."""
    environment = {k: v for k, v in os.environ.items() if not (is_setting(k) or k == PROFILE)}
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-P", "-m", "abhinaya.stream", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment | ({} if download else OFFLINE),
        start_new_session=True,
    )
    code: int | None = None
    try:
        output, errors = process.communicate(timeout=timeout_s)
        code = process.returncode
    except (subprocess.TimeoutExpired, KeyboardInterrupt) as error:
        process.terminate()  # it ends its processes and removes its folder
        try:
            output, errors = process.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
        if isinstance(error, KeyboardInterrupt):
            raise
    lines = errors.decode("utf-8", "replace").splitlines()
    return Outcome(code, output, [line.strip() for line in lines if line.strip()])


def judge(outcome: Outcome, took_s: float, download: bool = False) -> Iterator[Finding]:
    """Yield a finding for each model, and one for the run as a whole."""
    subject = "pipeline"
    failed = {m[1]: m for line in outcome.errors if (m := _NO_MODEL.match(line))}
    yield from (_absent(m[1], m[2], m[3], download) for m in failed.values())
    if outcome.code is None:
        yield Finding(subject, "fault", f"was not done within {took_s:.2g} s", MORE_TIME)
        return
    events = [json.loads(line) for line in outcome.output.splitlines()]
    for event in events:
        if event["type"] == "node_up":
            limit = ", no commercial use" if event["noncommercial"] else ""
            detail = f"{event['model']} {event['version']} ({event['licence']}{limit})"
            yield Finding(f"model {event['service']}", "ok", detail)
    if failed:
        yield Finding(subject, "warning", "is not complete", "correct the models above first")
    elif outcome.code:
        detail = outcome.errors[-1][:300] if outcome.errors else f"ended with {outcome.code}"
        yield Finding(subject, "fault", detail, "correct that, and run the doctor again")
    else:
        yield _of_events(events, took_s)


def _absent(service: str, model: str, error: str, download: bool) -> Finding:
    reason, _, remedy = error.partition("; ")
    if not download and "HF_HUB_OFFLINE" in reason:
        reason = "its files are not on this machine"
        remedy = "the first start downloads them; --download does now; or name a local copy"
    return Finding(f"model {service}", "fault", f"{model}: {reason}", remedy or REPORT)


def _of_events(events: Iterable[dict[str, Any]], took_s: float) -> Finding:
    subject, streams, missing, answers = "pipeline", [], set(), []
    for event in events:
        if event["type"] == "summary":
            streams = list(event["streams"].values())
        elif event["type"] == "verdict":
            missing |= {f"{m['voter']}: {m['reason']}" for m in event["missing"]}
            words = (event["transcript"] or {}).get("text", "")
            answers.append(event["label"] + (f', "{words}"' if words else ""))
    if len(streams) != 1 or not streams[0]["ended"]:
        return Finding(subject, "fault", "the audio was not processed to its end", REPORT)
    if streams[0]["gaps"]:
        reasons = ", ".join(streams[0]["gap_reasons"])
        return Finding(subject, "fault", f"audio was lost: {reasons}", REPORT)
    if missing:
        detail = f"without a vote of {'; '.join(sorted(missing))}"
        return Finding(subject, "warning", detail, MORE_TIME)
    if not answers:
        return Finding(subject, "fault", "no speech was found in the test recording", REPORT)
    detail = f"the test recording was processed in {took_s:.1f} s: {'; '.join(answers)}"
    return Finding(subject, "ok", detail)


def write_sound(path: Path) -> None:
    """Write the test recording, with half a second of silence before and after it."""
    samples = np.pad(recording(), SAMPLE_RATE // 2)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes(np.round(samples * INT16_FULL_SCALE).astype("<i2").tobytes())
