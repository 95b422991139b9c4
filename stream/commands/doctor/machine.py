"""Looks at the machine: versions, disk, GPU, microphone."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from abhinaya.stream.commands.doctor.finding import Finding, State, of_error
from abhinaya.stream.errors import SourceError
from abhinaya.stream.settings.config import EMBEDDED, Config
from abhinaya.stream.sources.microphone import Device, list_devices

PACKAGE: Final = "abhinaya"
ROOM_MB: Final = 100
"""Needed for logs and sockets."""
CACHE_MB: Final = 2_000
"""Wanted for models that are downloaded."""
LOOK_S: Final = 60.0

INSTALL: Final = "install the package anew: pip install --upgrade abhinaya"
TORCH: Final = """
import torch
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(", ".join(names) if torch.cuda.is_available() else "", end="")
"""


def versions(
    declared: Callable[[str], Sequence[str] | None] = importlib.metadata.requires,
    installed: Callable[[str], str] = importlib.metadata.version,
) -> Iterator[Finding]:
    """Compare the installed packages with what this one requires."""
    from packaging.requirements import Requirement

    yield Finding("python", "ok", f"{platform.python_version()}, {platform.platform()}")
    wrong, count = [], 0
    for text in declared(PACKAGE) or ():
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            version = installed(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, not {requirement.specifier}")
    if wrong:
        yield Finding("packages", "fault", "; ".join(wrong), INSTALL)
    else:
        yield Finding("packages", "ok", f"{count} as required by abhinaya {installed(PACKAGE)}")


def disk(
    config: Config, free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
) -> Iterator[Finding]:
    """Look for room: for logs and sockets, and for models that are downloaded."""
    run = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    state_mb = free(run) // 2**20
    detail = f"{state_mb:,} MB free in {run}"
    if state_mb < ROOM_MB:
        yield Finding("disk", "fault", detail, f"make room there: {ROOM_MB} MB at least")
    else:
        yield Finding("disk", "ok", detail)
    if config.profile == EMBEDDED:  # whose models the package carries
        return
    cache = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    there = next(p for p in (cache, *cache.parents) if p.exists())
    cache_mb = free(there) // 2**20
    detail = f"{cache_mb:,} MB free for models in {cache}"
    if cache_mb < CACHE_MB:
        yield Finding("cache", "warning", detail, "make room, or set HF_HOME to a larger disk")
    else:
        yield Finding("cache", "ok", detail)


def gpu(config: Config, ask_torch: bool) -> Iterator[Finding]:
    """Look for a GPU: by its driver, and if asked also as torch sees it.

    torch is imported in a process of its own, which takes seconds.
    """
    workers = [*config.voters.values(), *([config.asr] if config.asr else [])]
    wanted = any(str(w.options.get("device", "")).startswith("cuda") for w in workers)
    names = _driver()
    if names:
        yield Finding("gpu", "ok", names)
    elif wanted:
        remedy = "install the NVIDIA driver, or set the option device of these models to cpu"
        yield Finding("gpu", "fault", "the profile wants one, and nvidia-smi finds none", remedy)
    else:
        yield Finding("gpu", "ok", "none: models run on the CPU")
    if ask_torch or (wanted and names):
        seen = _torch()
        if seen:
            yield Finding("torch", "ok", f"sees {seen}")
        else:
            remedy = "install a build of torch for this driver: https://pytorch.org/get-started"
            yield Finding("torch", "fault" if wanted else "warning", "sees no GPU", remedy)


def microphone(
    needed: bool, devices: Callable[[], list[Device]] = list_devices
) -> Iterator[Finding]:
    """Look for PortAudio and for devices that record; a file can be listened to without."""
    state: State = "fault" if needed else "warning"
    try:
        there = devices()
    except SourceError as error:
        yield of_error("microphone", error, state)
        return
    if there:
        names = ", ".join(f"{d.name}{' (default)' if d.default else ''}" for d in there)
        yield Finding("microphone", "ok", names)
    else:
        remedy = "plug one in, or listen to files and streams"
        yield Finding("microphone", state, "PortAudio finds no device that records", remedy)


def _driver() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    return _output(query)


def _torch() -> str:
    if importlib.util.find_spec("torch") is None:
        return ""
    return _output([sys.executable, "-P", "-c", TORCH])


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - our own commands
            command, capture_output=True, text=True, timeout=LOOK_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "; ".join(done.stdout.split("\n")).strip("; ") if done.returncode == 0 else ""
