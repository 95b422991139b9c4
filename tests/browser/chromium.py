"""Scenes in Chromium: finds Node, Chromium and packages, or says how to get what is missing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from places import ROOT
from ports import silent_port

HERE = Path(__file__).parent
SERVE = "from abhinaya.stream.__main__ import commands; commands()"
PACKAGES = ("playwright-core", "axe-core")


def environment() -> dict[str, str]:
    """Return the environment of a scene; AssertionError: something is missing."""
    folder = Path(os.environ.get("ABHINAYA_BROWSER", ROOT / "build" / "browser"))
    for name in PACKAGES:
        at = folder / "node_modules" / name
        assert at.is_dir(), f"{at} is missing: run `make browser`, or set ABHINAYA_BROWSER"
    chromium = (
        os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    )
    assert chromium, "Chromium is missing: install it (Debian: chromium), or set CHROMIUM"
    assert shutil.which("node"), "Node is missing: install Node 20 or newer (Debian: nodejs)"
    return {**os.environ, "ABHINAYA_BROWSER": str(folder), "CHROMIUM": chromium}


def play(
    scene: str, address: str, token: str = "", *more: str, seconds: int = 120
) -> dict[str, Any]:
    """Run a scene and return what it measured; AssertionError: it failed."""
    done = subprocess.run(
        ["node", str(HERE / "run.mjs"), scene, address, token, *more],
        env=environment(), capture_output=True, text=True, timeout=seconds,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextlib.contextmanager
def started(command: list[str], address: str, log: Path, seconds: float = 40.0) -> Iterator[None]:
    """Run a server until the block ends, which begins when the server answers."""
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as server:
        try:
            end = time.monotonic() + seconds
            while not _answers(address):
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < end, f"no answer from {address}: {log.read_text()}"
                time.sleep(0.1)
            yield
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()


@contextlib.contextmanager
def serve(folder: Path, *more: str) -> Iterator[tuple[str, str]]:
    """Run `abhinaya serve` on a free port; yield its address and token."""
    data = folder / "data"
    command = [sys.executable, "-P", "-c", SERVE, "serve", "--data", str(data), *more]
    address, port = _free()
    with started([*command, "--port", port], address, folder / "serve.log"):
        yield address, (data / "token").read_text().strip()


@contextlib.contextmanager
def generated(folder: Path, streams: int, rate: int) -> Iterator[str]:
    """Run the server of generated events on a free port; yield its address."""
    address, port = _free()
    command = [sys.executable, "-P", str(HERE / "generated.py"), port, str(streams), str(rate)]
    with started(command, address, folder / "generated.log"):
        yield address


def _free() -> tuple[str, str]:
    with silent_port() as port:
        return f"http://127.0.0.1:{port}", str(port)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
