"""The image of deploy/Dockerfile, built and started (`make image`): it labels, and a cell works."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml
from deploy.chart import needs_helm, pod_of, render
from deploy.machine import COMPOSE, IMAGE, USER, Machine, Pod, stop, succeeds
from places import ROOT

from abhinaya.stream.cluster.keys import make
from abhinaya.stream.cluster.load import load
from abhinaya.stream.commands.render import helm_values

DEMO = f"{ROOT / 'bench' / 'demo'}:/demo:ro"
READY_S = 90

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="iproute2 is missing"),
    pytest.mark.skipif(not IMAGE.exists(), reason=f"{IMAGE} is missing: run `make image`"),
]


@pytest.fixture
def machine() -> Iterator[Machine]:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    shutil.chown(folder, USER, USER)
    with contextlib.closing(Machine(folder)) as found:
        yield found
    shutil.rmtree(folder)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """(certificate, key), made by the command of docs/deploy.md."""
    made = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=localhost"
    files = ["-out", str(made[0]), "-keyout", str(made[1])]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return made


def has_labelled_all(said: str) -> bool:
    ends = [line for line in said.splitlines() if line.startswith("summary")]
    return len(ends) == 2 and all("segments=9" in line and "gaps=0" in line for line in ends)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_S
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert holds()


def lives(pod: Pod, process: subprocess.Popen[str]) -> bool:
    probes = (pod.container[name]["exec"]["command"] for name in ("startupProbe", "livenessProbe"))
    return all(succeeds(process, probe) for probe in probes)


def ask(machine: Machine, path: str, token: str = "") -> str:
    """What the gateway answers: the status, then the body."""
    program = (
        "import ssl, sys, urllib.error, urllib.request as u\n"
        "request = u.Request('https://gateway:8377' + sys.argv[1],"
        " headers={'Authorization': 'Bearer ' + sys.argv[2]})\n"
        "try: answer = u.urlopen(request, context=ssl._create_unverified_context())\n"
        "except urllib.error.HTTPError as error: answer = error\n"
        "except urllib.error.URLError as error: sys.exit(print(error))\n"
        "print(answer.status, answer.read().decode())"
    )
    return machine.run(["python", "-c", program, path, token])


def counted(figures: str) -> float:
    found = re.findall(r"^abhinaya_segments_total{.*} (\S+)$", figures, re.M)
    return sum(map(float, found))


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
    assert has_labelled_all(machine.run(command, [DEMO]))


def test_the_cell_of_compose_is_ready_labels_and_ends_in_order(
    machine: Machine, certificate: tuple[Path, Path]
) -> None:
    folder = machine.folder
    for name in ("tls", "models", "data", "data/gateway"):
        (folder / name).mkdir()
    for file in (ROOT / "deploy" / "cluster.toml", *certificate):
        shutil.copy(file, folder / "tls" if file.suffix == ".pem" else folder)
    for path in folder.rglob("*"):
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
        wait_until(lambda: machine.start(check).wait() == 0)
        stream = ["abhinaya-stream", "/demo/call.opus", "--channels", "split"]
        hub = ["--hub", "tcp://hub:9000", "--keys", "/keys", "--key-name", "input"]
        keys = [volume for volume in machine.volumes("gateway") if ":/keys" in volume]
        assert has_labelled_all(machine.run([*stream, *hub], [*keys, DEMO]))
        figures = ask(machine, "/metrics", secret)
        assert counted(figures) == 18, "the gateway counts the runs of others too"
    finally:
        ends = {name: stop(running[name]) for name in reversed(services)}
    assert ends == dict.fromkeys(services, 0)


@needs_helm
def test_the_cell_of_the_chart_is_ready_labels_and_ends_in_order(
    machine: Machine, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    """From cluster.toml over keys, values and chart to containers."""
    shutil.copy(ROOT / "deploy" / "cluster.toml", tmp_path)
    cluster = load(tmp_path / "cluster.toml")
    make(cluster)
    values = yaml.safe_load(helm_values(cluster, 7)) | {
        "inputs": [{"name": "demo", "args": ["/demo/call.opus", "--channels", "split"]}],
        "gateway": {"tokens": "abhinaya-tokens"},
    }
    rendered = render(tmp_path, values)
    objects = {
        r["metadata"]["name"]: {name: text.encode() for name, text in r["data"].items()}
        for r in rendered
        if r["kind"] == "ConfigMap"
    }
    keys = tmp_path / "keys"
    for name, files in (
        ("abhinaya-hub-a", [*(keys / "cells" / "a").iterdir()]),
        *(
            (f"abhinaya-{r}", [keys / "clients" / f"{r}.key_secret"])
            for r in ("node", "input", "reader")
        ),
    ):
        objects[name] = {path.name: path.read_bytes() for path in files}
    objects["abhinaya-tls"] = dict(
        zip(("tls.crt", "tls.key"), (p.read_bytes() for p in certificate), strict=True)
    )
    objects["abhinaya-tokens"] = {"token": b"token-of-the-owner\n", "nobody.json": b"{}"}
    pods = {
        found["spec"]["containers"][0]["name"]: Pod(machine, found, objects)
        for found in filter(None, map(pod_of, rendered))
    }
    refused = machine.run(
        ["abhinaya", "hub", "tcp://0.0.0.0:1", "--keys", "/s"],
        [f"{pods['hub'].folder('secret')}:/s:ro"],
        7,
    )
    assert "can be written by others" in refused, "or no container need copy the keys"

    running = {name: pods[name].start() for name in ("hub", "node", "gateway")}
    try:
        for name in ("hub", "node"):
            wait_until(partial(lives, pods[name], running[name]))
        ready = pods["gateway"].container["readinessProbe"]["httpGet"]
        assert ready["scheme"] == "HTTPS"
        wait_until(lambda: ask(machine, ready["path"]).startswith("200 "))
        said = pods["input"].start(DEMO).communicate(timeout=120)[0]
        events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        verdicts = [e for e in events if e["type"] == "verdict" and e["final"]]
        assert len({(v["stream"], v["segment"]) for v in verdicts}) == 18, said
        figures = ask(machine, "/metrics", "token-of-the-owner")
        assert counted(figures) == 18
        assert re.search(r'^abhinaya_hub_oldest_task_seconds{.*cell="a".*}', figures, re.M)
    finally:
        ends = {name: stop(running[name]) for name in ("gateway", "node", "hub")}
    assert ends == dict.fromkeys(running, 0)
