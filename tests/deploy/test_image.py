"""The image of deploy/Dockerfile, built and started (`make image`): it labels, and a cell works."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml
from deploy.chart import needs_helm, pod_of, render
from places import ROOT

from abhinaya.stream.wire.keys import make_keys

IMAGE = Path(os.environ.get("ABHINAYA_IMAGE_ROOT", ROOT / "build" / "image" / "root"))
CONFINED = Path(__file__).with_name("confined.sh")
DEMO = ROOT / "bench" / "demo"
USER = 10001
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))["services"]

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="iproute2 is missing"),
    pytest.mark.skipif(not IMAGE.exists(), reason=f"{IMAGE} is missing: run `make image`"),
]


class Machine:
    """A machine without a network whose containers reach each other as `hub`, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.name, self.folder = f"abhinaya-{os.getpid()}", folder
        (folder / "hosts").write_text("127.0.0.1 localhost hub gateway\n")
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


def stop(process: subprocess.Popen[str]) -> tuple[int, str]:
    """End a container as an orchestrator does; return its exit code and what it has printed."""
    if process.poll() is None:
        os.kill(child_of(process), signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    print(said)
    return process.returncode, said


def succeeds(process: subprocess.Popen[str], probe: Sequence[str]) -> bool:
    """Run a probe on the files of a container."""
    root = f"/proc/{child_of(process)}/root/tmp/"
    command = [part.replace("/tmp/", root) for part in probe]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture
def machine() -> Iterator[Machine]:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    shutil.chown(folder, USER, USER)
    with contextlib.closing(Machine(folder)) as found:
        yield found
    shutil.rmtree(folder)


def assert_all_is_labelled(said: str) -> None:
    ends = [line for line in said.splitlines() if line.startswith("summary")]
    assert len(ends) == 2
    assert all("segments=9" in line and "gaps=0" in line for line in ends)


def test_it_is_confined_and_has_no_pip(machine: Machine) -> None:
    script = (
        "id -u; grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status;"
        "for f in / /opt/abhinaya /etc /tmp; do touch $f/x && echo $f; done 2>/dev/null;"
        "for m in pip setuptools; do python -m $m --version && echo has $m; done 2>/dev/null;"
        "command -v pip pip3; test -s /opt/abhinaya/sbom.cdx.json && echo materials"
    )
    said = machine.run(["sh", "-c", script])
    none = "0000000000000000"
    rights = {f"CapBnd:\t{none}", f"CapEff:\t{none}", "NoNewPrivs:\t1"}
    assert set(said.splitlines()) == {"10001", *rights, "/tmp", "materials"}


def test_it_labels_the_demo_call_without_a_network(machine: Machine) -> None:
    command = ["abhinaya-stream", "/demo/call.opus", "--channels", "split"]
    assert_all_is_labelled(machine.run(command, [f"{DEMO}:/demo:ro"]))


def test_the_cell_of_compose_is_ready_labels_and_ends_in_order(machine: Machine) -> None:
    folder = machine.folder
    for name in ("tls", "models", "data", "data/gateway"):
        (folder / name).mkdir()
    shutil.copy(ROOT / "deploy" / "cluster.toml", folder)
    # the commands of docs/deploy.md
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj"),
            *(
                "/CN=localhost",
                "-keyout",
                f"{folder}/tls/key.pem",
                "-out",
                f"{folder}/tls/cert.pem",
            ),
        ],
        check=True,
        capture_output=True,
    )
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, USER, USER)
    machine.run(["abhinaya", "cluster", "keys", "/deploy/cluster.toml"], [f"{folder}:/deploy"])
    token = ["serve", "token", "prometheus", "--role", "reader", "--data", "/data"]
    secret = machine.run(["abhinaya", *token], machine.volumes("gateway")).strip()

    services = ("hub", "asr", "gateway")
    running = {
        name: machine.start(["abhinaya", *COMPOSE[name]["command"]], machine.volumes(name))
        for name in services
    }
    try:
        check = COMPOSE["gateway"]["healthcheck"]["test"][1:]
        deadline = time.monotonic() + 60
        while machine.start(check).wait() and time.monotonic() < deadline:
            time.sleep(0.2)
        machine.run(check)
        stream = ["abhinaya-stream", "/demo/call.opus", "--channels", "split"]
        hub = ["--hub", "tcp://hub:9000", "--keys", "/keys"]
        volumes = [v for v in machine.volumes("gateway") if ":/keys" in v]
        assert_all_is_labelled(machine.run([*stream, *hub], [*volumes, f"{DEMO}:/demo:ro"]))
        scrape = (
            "import ssl, urllib.request as u; print(u.urlopen(u.Request('https://gateway:8377/metrics',"
            f"headers={{'Authorization': 'Bearer {secret}'}}), "
            "context=ssl._create_unverified_context()).read().decode())"
        )
        figures = machine.run(["python", "-c", scrape])
        counts = re.findall(r"^abhinaya_segments_total{.*} (\S+)$", figures, re.M)
        assert sum(map(float, counts)) == 18, "an operator's gateway counts the runs of others"
    finally:
        ends = {name: stop(running[name]) for name in reversed(services)}
    assert {name: code for name, (code, _) in ends.items()} == dict.fromkeys(services, 0), ends


@needs_helm
def test_keys_of_a_secret_are_copied_before_a_hub_takes_them(
    machine: Machine, tmp_path: Path
) -> None:
    """A volume of a Secret lets everybody write in its folder, and the group read its files."""
    key = "A" * 40
    service = {"minimum": 1, "maximum": 1, "gives": ["asr"], "cpus": 1, "gpus": 0}
    values = {"cells": [{"name": "a", "key": key}], "services": {"asr": service}, "epoch": 1}
    pods = filter(None, map(pod_of, render(tmp_path, values)))
    (pod,) = [p for p in pods if p["spec"]["containers"][0]["name"] == "hub"]
    copies, hub = pod["spec"]["initContainers"][0]["command"], pod["spec"]["containers"][0]
    secret, keys = machine.folder / "secret", machine.folder / "keys"
    make_keys(secret, "hub")
    make_keys(secret, "node", "node")
    keys.mkdir()
    for folder in (secret, keys):
        folder.chmod(0o1777)
    for file in secret.iterdir():
        shutil.chown(file, 0, USER)
        file.chmod(0o440)
    mounts = [f"{secret}:/secret:ro", f"{keys}:/keys"]
    said = machine.run(["abhinaya", "hub", "tcp://0.0.0.0:9000", "--keys", "/secret"], mounts, 7)
    assert "can be written by others" in said

    machine.run(copies, mounts)
    running = machine.start(["abhinaya", *hub["args"]], [f"{keys}:/keys:ro"])
    probes = [hub[name]["exec"]["command"] for name in ("startupProbe", "livenessProbe")]
    deadline = time.monotonic() + 30
    while not succeeds(running, probes[0]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert all(succeeds(running, probe) for probe in probes)
    assert stop(running)[0] == 0
