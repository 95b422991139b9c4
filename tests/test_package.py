"""What somebody gets who installs a wheel: all of the product, and nothing of the repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from places import ROOT

from abhinaya.bench.demo import CALL

pytestmark = [pytest.mark.slow, pytest.mark.processes]


def run(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build the source archive, and the wheel from that."""
    out = tmp_path_factory.mktemp("dist")
    copy = out / "copy"
    listed = run("git", "ls-files", cwd=ROOT).splitlines()
    for name in listed:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, cwd=copy)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def test_wheel_and_source_archive_hold_the_product_and_its_licence(
    built: tuple[Path, Path],
) -> None:
    sdist, wheel = built
    product = {
        f"abhinaya/{path.relative_to(ROOT).as_posix()}"
        for folder in ("stream", "models", "train", "bench")
        for path in (ROOT / folder).rglob("*.py")
    }
    found = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in found if name.endswith(".py")} == product
    for name in ("models/py.typed", "stream/py.typed", "stream/settings/profiles/embedded.toml",
                 "train/recipes/systems/abhinaya/system.toml", "bench/demo/call.opus"):  # fmt: skip
        assert f"abhinaya/{name}" in found
    assert any(name.endswith("licenses/LICENSE") for name in found)
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {name.removeprefix("abhinaya/") for name in product} <= inside
    assert {"pyproject.toml", "README.md", "LICENSE"} <= inside


def test_an_installed_wheel_labels_the_demo_call(built: tuple[Path, Path], tmp_path: Path) -> None:
    """In an environment of its own, which borrows the packages that it depends on from this one."""
    _, wheel = built
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    install = ("-m", "pip", "install", "--no-deps", "--no-index", "--quiet", wheel)
    run(python, *install, cwd=tmp_path)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    borrowed = [sysconfig.get_path("purelib"), *(p for p in sys.path if "site-packages" in p)]
    (site / "borrowed.pth").write_text("\n".join(dict.fromkeys(borrowed)))
    where = run(python, "-c", "import abhinaya.stream as s; print(s.__file__)", cwd=tmp_path)
    assert where.startswith(str(site)), "the installed one, and not the repository"
    assert run(tmp_path / "venv" / "bin" / "abhinaya", "--version", cwd=tmp_path)
    command = (tmp_path / "venv" / "bin" / "abhinaya-stream", CALL, "--format", "jsonl")
    events = [json.loads(line) for line in run(*command, cwd=tmp_path).splitlines()]
    assert sum(event["type"] == "verdict" for event in events) >= 8
