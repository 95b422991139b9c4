"""The rules of the house: who imports whom, what is packaged, how heavy a process may be."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import fakes
import msgspec
import pytest
from places import ROOT

from abhinaya.stream.front.main import Assignment
from abhinaya.stream.run.recorder import Recorder
from abhinaya.stream.settings.config import encode
from abhinaya.stream.sources.base import InputConfig
from abhinaya.stream.wire.messages import Status

MAY_IMPORT = {
    "models": {"models"},
    "train": {"train", "models"},
    "stream": {"stream", "models"},
    "bench": {"bench", "stream", "train", "models"},
}

MAX_LINES = 400
LONGER = {
    "stream/wire/messages.py": 585,  # one file is the whole wire contract
    "stream/hub/broker.py": 470,  # what the hub does with each message
    "bench/transport.py": 520,
}
"""Files that may be longer than the rest, and how long."""

HEAVY = ("torch", "torchaudio", "transformers", "peft", "silero_vad", "faster_whisper")
"""What a process that runs no network must not load."""

LIGHT = (
    "hub.main",
    "front.main",
    "run.monitor",
    "run.recorder",
    "run.supervisor",
    "commands.stream",
)
MAX_IMPORT_S = 0.5
MAX_RESIDENT_MB = 120


def files(folder: str) -> list[Path]:
    return sorted(p for p in (ROOT / folder).rglob("*.py") if "__pycache__" not in p.parts)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every module that a file names, at its top or within a function: (level, name)."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            yield node.level, base
            if base == "abhinaya":
                yield from ((node.level, f"abhinaya.{alias.name}") for alias in node.names)


SOURCES = [path for folder in MAY_IMPORT for path in files(folder)]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


# --- imports --------------------------------------------------------------------------------------


def test_there_are_sources_to_look_at() -> None:
    assert len(SOURCES) > 50
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_run_one_way(path: Path) -> None:
    allowed = MAY_IMPORT[path.relative_to(ROOT).parts[0]]
    for level, module in imports(path):
        assert level == 0, "imports are absolute"
        top, _, rest = module.partition(".")
        assert top not in {*MAY_IMPORT, "tests", "fakes"}, f"{module}: import abhinaya.{module}"
        if top == "abhinaya" and rest:
            assert rest.partition(".")[0] in allowed, module


def test_every_import_would_be_noticed(tmp_path: Path) -> None:
    """What the test above trusts."""
    path = tmp_path / "x.py"
    path.write_text(
        "import abhinaya.bench.cli\n"
        "from abhinaya import train\n"
        "def f():\n    from . import y\n    from abhinaya.stream.settings.config import load\n",
        "utf-8",
    )
    assert set(imports(path)) == {
        (0, "abhinaya.bench.cli"),
        (0, "abhinaya"),
        (0, "abhinaya.train"),
        (1, ""),
        (0, "abhinaya.stream.settings.config"),
    }


# --- packaging ------------------------------------------------------------------------------------


def test_every_folder_with_python_files_is_packaged_and_no_other() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    setup = project["tool"]["setuptools"]
    folders = {".".join(("abhinaya", *p.parent.relative_to(ROOT).parts)) for p in SOURCES}
    assert set(setup["packages"]) == folders
    assert setup["packages"] == sorted(setup["packages"])
    assert setup["package-dir"] == {"abhinaya": "."}


def test_every_package_has_its_init() -> None:
    assert not [name(p.parent) for p in SOURCES if not (p.parent / "__init__.py").exists()]


def test_the_folders_of_tests_are_no_packages() -> None:
    assert not [name(p) for p in files("tests") if p.name == "__init__.py"]


# --- length ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_file_is_short_because_it_does_one_thing(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= LONGER.get(name(path), MAX_LINES)


# --- weight ---------------------------------------------------------------------------------------

LOOK = """
import json, sys, time
begun = time.process_time()
import abhinaya.stream.{module}
took = time.process_time() - begun
status = open("/proc/self/status").read()
resident = int(status.partition("VmRSS:")[2].split()[0]) / 1024
print(json.dumps([took, resident, sorted(sys.modules)]))
"""


def look(module: str) -> tuple[float, float, list[str]]:
    """Import a module of `stream` in a fresh process: (seconds, MB resident, modules).

    Seconds of the processor: what passes on the clock depends on what else the machine does.
    """
    code = LOOK.format(module=module)
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True
    )
    took, resident, modules = json.loads(done.stdout)
    return took, resident, modules


@pytest.mark.processes
@pytest.mark.parametrize("module", LIGHT)
def test_a_process_without_a_network_starts_light(module: str) -> None:
    took, resident, modules = look(module)
    assert not set(HEAVY) & set(modules)
    assert resident < MAX_RESIDENT_MB
    assert took < MAX_IMPORT_S


def weight(pid: int) -> tuple[float, str]:
    """MB resident and everything that is mapped of a running process."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0]) / 1024
    return resident, Path(f"/proc/{pid}/maps").read_text()


@pytest.mark.processes
def test_hub_and_front_are_light_also_at_work(tmp_path: Path) -> None:
    """The front finds speech by Silero in onnxruntime; neither of the two loads torch."""
    tmp_path.chmod(0o700)
    endpoint = f"ipc://{tmp_path}"
    (tmp_path / "config.json").write_bytes(encode(fakes.config()))
    call = str(ROOT / "bench" / "demo" / "call.opus")
    assignment = Assignment(
        front="front-0", endpoint=endpoint, input=InputConfig(what=call), name="call"
    )
    (tmp_path / "front-0.json").write_bytes(msgspec.json.encode(assignment))
    reading, writing = os.pipe()
    shared = ["--directory", str(tmp_path), "--lifeline", str(reading)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", f"abhinaya.stream.{module}", *shared, *more],
            pass_fds=[reading],
        )
        for module, more in (("hub.main", []), ("front.main", ["--name", "front-0"]))
    ]
    recorder = Recorder(endpoint, "recorder")
    try:
        deadline, at_work = time.monotonic() + 30, False
        while not at_work and time.monotonic() < deadline:
            for event in recorder.poll(0.1):
                at_work |= isinstance(event, Status) and event.open_segments > 0
        assert at_work, "no segment came"
        for process in processes:
            resident, maps = weight(process.pid)
            assert resident < MAX_RESIDENT_MB
            assert not [heavy for heavy in HEAVY if f"/site-packages/{heavy}/" in maps]
    finally:
        recorder.close()
        for process in processes:
            process.kill()
            process.wait()
        os.close(writing)
        os.close(reading)
