"""A machine of this test alone, with containers of the image (`make image`)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from deploy.chart import Resource
from places import ROOT

IMAGE = Path(os.environ.get("ABHINAYA_IMAGE_ROOT", ROOT / "build" / "image" / "root"))
CONFINED = Path(__file__).with_name("confined.sh")
USER = 10001
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))["services"]


class Machine:
    """A machine without a network whose containers reach each other as `hub`, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.name, self.folder = f"abhinaya-{os.getpid()}", folder
        (folder / "hosts").write_text(
            "127.0.0.1 localhost hub gateway call-abhinaya-hub-a.voice.svc\n"
        )
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        subprocess.run(["ip", "-n", self.name, "link", "set", "lo", "up"], check=True)

    def close(self) -> None:
        subprocess.run(["ip", "netns", "delete", self.name], check=True)

    def start(self, command: Sequence[str], volumes: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Start a container."""
        inside = ["ip", "netns", "exec", self.name, "unshare", "--mount", "--pid", "--ipc"]
        mounts = [f"{self.folder}/hosts:/etc/hosts:ro", *volumes]
        return subprocess.Popen(
            [*inside, "--fork", "--kill-child", str(CONFINED), str(IMAGE), *mounts, "--", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: Sequence[str], volumes: Sequence[str] = (), code: int = 0) -> str:
        """Run a container to its end; return what it prints."""
        process = self.start(command, volumes)
        said = process.communicate(timeout=120)[0]
        assert process.returncode == code, said
        return said

    def volumes(self, service: str) -> list[str]:
        """The volumes of a service of compose.yaml, below the folder."""
        found = (re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", v) for v in COMPOSE[service]["volumes"])
        return [str(self.folder / volume) for volume in found]


def child_of(process: subprocess.Popen[str]) -> int:
    """The first process of a container, as the machine numbers it."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 10
    while not (found := children.read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return int(found[0])


def stop(process: subprocess.Popen[str]) -> int:
    """End a container as an orchestrator does; print what it said, return its exit code."""
    if process.poll() is None:
        os.kill(child_of(process), signal.SIGTERM)
    print(process.communicate(timeout=60)[0])
    return process.returncode


def succeeds(process: subprocess.Popen[str], probe: Sequence[str]) -> bool:
    """Run a probe on the files of a container."""
    root = f"/proc/{child_of(process)}/root/tmp/"
    command = [part.replace("/tmp/", root) for part in probe]
    return subprocess.run(command, capture_output=True).returncode == 0


class Pod:
    """A pod of the chart: its volumes as folders of the machine.

    Args:
        machine: where it runs.
        pod: the template.
        objects: by name: the files of each Secret and ConfigMap.

    """

    def __init__(
        self, machine: Machine, pod: Resource, objects: Mapping[str, Mapping[str, bytes]]
    ) -> None:
        self._machine, self._objects = machine, objects
        self._spec = pod["spec"]
        (self.container,) = self._spec["containers"]
        self._folder = Path(tempfile.mkdtemp(dir=machine.folder))
        self._folder.chmod(0o755)
        for volume in self._spec["volumes"]:
            self._make(volume)

    def folder(self, volume: str) -> Path:
        return self._folder / volume

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Run the init containers, then start the container; `more`: volumes."""
        for first in self._spec["initContainers"]:
            self._machine.run(first["command"], self._mounts(first))
        command = self.container.get("command", ["abhinaya"]) + self.container["args"]
        return self._machine.start(command, [*self._mounts(self.container), *more])

    def _make(self, volume: Resource) -> None:
        folder = self._folder / volume["name"]
        folder.mkdir()
        match volume:
            case {"emptyDir": _}:
                folder.chmod(0o1777)
            case {"persistentVolumeClaim": _}:
                shutil.chown(folder, 0, USER)
                folder.chmod(0o2775)
            case {"projected": {"sources": sources}}:
                for source in sources:
                    self._fill(folder, source.get("secret") or source["configMap"])
            case {"secret": {"secretName": name}}:
                self._fill(folder, {"name": name})
            case {"configMap": found}:
                self._fill(folder, found)

    def _fill(self, folder: Path, source: Resource) -> None:
        """Write files as the kubelet does: the folder is open to all, fsGroup reads the files."""
        files = self._objects[source["name"]]
        paths = {item["key"]: item["path"] for item in source.get("items", [])}
        for key in paths or files:
            path = folder / paths.get(key, key)
            path.write_bytes(files[key])
            shutil.chown(path, 0, USER)
            path.chmod(0o440)
        folder.chmod(0o1777)

    def _mounts(self, container: Resource) -> list[str]:
        return [
            f"{self._folder / m['name']}:{m['mountPath']}{':ro' if m.get('readOnly') else ''}"
            for m in container["volumeMounts"]
            if m["mountPath"] != "/tmp"
        ]
