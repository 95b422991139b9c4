"""`abhinaya serve` as a process, with nodes that answer without models."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
from places import ROOT

PROGRAM = ROOT / "tests" / "null_program.py"


class Served:
    """A running `abhinaya serve`."""

    def __init__(self, data: Path, *arguments: str) -> None:
        self.data = data
        command = [sys.executable, str(PROGRAM), "0", "serve", "--port", "0", "--data", str(data)]
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.PIPE,
            stderr=(data.parent / "stderr").open("w"),
            text=True,
            env=os.environ | {"XDG_RUNTIME_DIR": str(data.parent)},
        )
        assert self.process.stdout is not None
        found = re.search(r"http://127.0.0.1:(\d+)/", self.process.stdout.readline())
        assert found, (data.parent / "stderr").read_text()
        self.port = int(found[1])
        self.token = (data / "token").read_text().strip()
        self.http = httpx2.Client(
            base_url=f"http://127.0.0.1:{self.port}/v1",
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=30,
        )

    def job(self, answer: httpx2.Response) -> dict[str, Any]:
        """Return the job of an answer when it is over."""
        assert answer.status_code == 202, answer.text
        job, deadline = answer.json(), time.monotonic() + 30
        while job["state"] in ("waiting", "running"):
            assert time.monotonic() < deadline, job
            time.sleep(0.1)
            job = self.http.get(f"/files/{job['id']}").json()
        return job

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal; return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(10)
