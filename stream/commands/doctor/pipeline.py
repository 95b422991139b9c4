"""Sends one second of sound through the real pipeline: every process, every socket, every model."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.commands.doctor.child import last_line, run_module
from abhinaya.stream.commands.doctor.finding import Finding
from abhinaya.stream.settings.config import Config, Traced
from abhinaya.stream.settings.show import as_toml

SUBJECT = "pipeline"


def pipeline(config: Config, accept: bool, timeout_s: float, download: bool) -> Iterator[Finding]:
    """Run the monitor on a second of sound; it must come out decided, without gaps, in time."""
    with tempfile.TemporaryDirectory(prefix="abhinaya-doctor-") as folder:
        sound, profile = Path(folder, "second.wav"), Path(folder, "profile.toml")
        write_sound(sound)
        # the rules are left out: nobody is to be alerted of a test
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
        remedy = "give it more time (--timeout); do other programs use the machine?"
        yield Finding(SUBJECT, "fault", f"was not done within {timeout_s:g} s", remedy)
    elif done.code != 0:
        detail = last_line(done.errors) or f"ended with {done.code}"
        yield Finding(SUBJECT, "fault", detail, "mend what it names, and ask again")
    else:
        yield judge([json.loads(line) for line in done.output.splitlines()], took_s)


def judge(events: Sequence[dict[str, Any]], took_s: float) -> Finding:
    """Say whether the events of the run are what they should be."""
    summary = next((e for e in events if e["type"] == "summary"), None)
    streams = list(summary["streams"].values()) if summary else []
    if len(streams) != 1 or not streams[0]["ended"]:
        return Finding(SUBJECT, "fault", "the sound did not come to its end", "please report it")
    if streams[0]["gaps"]:
        reasons = ", ".join(streams[0]["gap_reasons"])
        return Finding(SUBJECT, "fault", f"sound was lost: {reasons}", "please report it")
    missing = {
        f"{m['voter']}: {m['reason']}"
        for e in events
        if e["type"] == "verdict"
        for m in e["missing"]
    }
    if missing:
        remedy = "give it more time (--timeout), or take a smaller line-up"
        return Finding(SUBJECT, "warning", f"without a vote of {'; '.join(missing)}", remedy)
    segments = streams[0]["segments"]
    heard = f"{segments} segments decided" if segments else "no speech in it, rightly"
    return Finding(SUBJECT, "ok", f"a second of sound went through in {took_s:.1f} s: {heard}")


def write_sound(path: Path) -> None:
    """Write a second of a voiced sound: the harmonics of 140 Hz, swelling four times a second."""
    t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    voice = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 20))
    swell = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * t)
    samples = (4000 * swell * voice).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.tobytes())
