"""What the doctor tries: to load each model as its node would, and a second of sound, all the way.

Both run in processes of their own, with a time limit. This module is also the one that loads a
model there: `python -m ... SERVICE` with the config on standard input.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.commands.doctor_machine import Finding, of_error
from abhinaya.stream.errors import AbhinayaError
from abhinaya.stream.node.worker import load_model
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.settings.config import Config, Traced, WorkerConfig
from abhinaya.stream.settings.environment import PROFILE, is_setting
from abhinaya.stream.settings.show import as_toml
from abhinaya.stream.wire.child import Epitaph
from abhinaya.stream.wire.messages import Service

OFFLINE: Final = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
"""A check does not download unless it is asked to."""
MORE_TIME: Final = "give it more time (--timeout), or take smaller models"


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """How a child ended."""

    code: int | None
    """Exit code; None if it took too long."""
    output: bytes
    last_line: str
    """Of standard error."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of loading: one of the two."""

    service: Service | None = None
    epitaph: Epitaph | None = None


def run_module(
    module: str, arguments: Sequence[str], given: bytes, timeout_s: float, download: bool
) -> Done:
    """Run `python -m module` without the settings of the environment: what is given holds them."""
    environment = {k: v for k, v in os.environ.items() if not (is_setting(k) or k == PROFILE)}
    process = subprocess.Popen(  # noqa: S603 - our own modules
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment | ({} if download else OFFLINE),
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(given, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return Done(None, b"", "")
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    lines = errors.decode("utf-8", "replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return Done(process.returncode, output, said[-1][:300] if said else "")


def services(config: Config) -> Mapping[str, WorkerConfig]:
    """Return the services of a profile, by name."""
    own = {"asr": config.asr, **config.voters, "refiner": config.refiner}
    return {name: worker for name, worker in own.items() if worker is not None}


def model(config: Config, service: str, timeout_s: float, download: bool) -> Iterator[Finding]:
    """Load the model of one service; unless `download`, only what is on this machine is used."""
    subject, begun = f"model {service}", time.monotonic()
    done = run_module(__name__, [service], configuration.encode(config), timeout_s, download)
    if done.code is None:
        yield Finding(subject, "fault", f"was not loaded within {timeout_s:g} s", MORE_TIME)
        return
    try:
        answer = msgspec.json.decode(done.output, type=Answer)
    except msgspec.DecodeError:
        detail = f"loading it ended with {done.code}: {done.last_line}"
        yield Finding(subject, "fault", detail, "is there memory enough? please report it")
        return
    if (epitaph := answer.epitaph) is not None:
        if not download and "HF_HUB_OFFLINE" in epitaph.reason:
            name = services(config)[service].model
            remedy = "the first start downloads them; --download does now; or name a local copy"
            yield Finding(subject, "fault", f"{name}: its files are not on this machine", remedy)
        else:
            yield of_error(subject, epitaph.error())
        return
    loaded, took_s = answer.service, time.monotonic() - begun
    assert loaded is not None
    limit = ", no commercial use" if loaded.noncommercial else ""
    detail = f"{loaded.model} {loaded.version} ({loaded.licence}{limit}), loaded in {took_s:.1f} s"
    yield Finding(subject, "ok", detail)


def main(argv: Sequence[str]) -> int:
    """Load the service named first, of the config on standard input; print what came of it."""
    (service,) = argv
    worker = services(configuration.decode(sys.stdin.buffer.read()))[service]
    # models print as they like: the answer goes where standard output was
    with os.fdopen(os.dup(1), "wb") as answers, contextlib.redirect_stdout(sys.stderr):
        os.dup2(2, 1)
        try:
            answer = Answer(service=load_model(service, worker).service)
        except AbhinayaError as error:
            epitaph = Epitaph(
                exit_code=error.exit_code,
                subject=error.subject,
                reason=error.reason,
                remedy=error.remedy,
            )
            answer = Answer(epitaph=epitaph)
        answers.write(msgspec.json.encode(answer))
    return 0


def pipeline(config: Config, accept: bool, timeout_s: float, download: bool) -> Iterator[Finding]:
    """Run the monitor on a second of sound; it must come out decided, without gaps, in time."""
    with tempfile.TemporaryDirectory(prefix="abhinaya-doctor-") as folder:
        sound, profile = Path(folder, "second.wav"), Path(folder, "profile.toml")
        write_sound(sound)
        # without rules: nobody is to be alerted of a test;
        # and a voter that does not answer is to be named before the run is given up
        patience = min(config.deadlines.file_s, timeout_s / 2)
        deadlines = dataclasses.replace(config.deadlines, file_s=patience)
        tried = dataclasses.replace(config, rules=(), deadlines=deadlines)
        profile.write_text(as_toml(Traced(tried, {})), "utf-8")
        arguments = [str(sound), "--profile", str(profile), "--format", "jsonl"]
        arguments += ["--accept-noncommercial"] if accept else []
        begun = time.monotonic()
        done = run_module("abhinaya.stream", arguments, b"", timeout_s, download)
        took_s = time.monotonic() - begun
    if done.code is None:
        yield Finding("pipeline", "fault", f"was not done within {timeout_s:g} s", MORE_TIME)
    elif done.code != 0:
        detail = done.last_line or f"ended with {done.code}"
        yield Finding("pipeline", "fault", detail, "mend what it names, and ask again")
    else:
        yield judge([json.loads(line) for line in done.output.splitlines()], took_s)


def judge(events: Sequence[dict[str, Any]], took_s: float) -> Finding:
    """Say whether the events of the run are what they should be."""
    report = "please report it"
    summary = next((e for e in events if e["type"] == "summary"), None)
    streams = list(summary["streams"].values()) if summary else []
    if len(streams) != 1 or not streams[0]["ended"]:
        return Finding("pipeline", "fault", "the sound did not come to its end", report)
    if streams[0]["gaps"]:
        reasons = ", ".join(streams[0]["gap_reasons"])
        return Finding("pipeline", "fault", f"sound was lost: {reasons}", report)
    verdicts = [e for e in events if e["type"] == "verdict"]
    missing = {f"{m['voter']}: {m['reason']}" for e in verdicts for m in e["missing"]}
    if missing:
        detail = f"without a vote of {'; '.join(sorted(missing))}"
        return Finding("pipeline", "warning", detail, MORE_TIME)
    segments = streams[0]["segments"]
    outcome = f"{segments} segments decided" if segments else "no speech in it, rightly"
    return Finding("pipeline", "ok", f"a second of sound went through in {took_s:.1f} s: {outcome}")


def write_sound(path: Path) -> None:
    """Write a second of a voiced sound: the harmonics of 140 Hz, swelling four times a second."""
    t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    voice = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 20))
    swell = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * t)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes((4000 * swell * voice).astype("<i2").tobytes())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
