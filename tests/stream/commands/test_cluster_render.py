"""A cluster.toml as values of the chart: what runs there has the same settings as on Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy.chart import needs_helm, pod_of, render

from abhinaya.stream.cells.map import decode
from abhinaya.stream.cluster.config import Cluster
from abhinaya.stream.cluster.keys import make, public_key
from abhinaya.stream.cluster.load import load
from abhinaya.stream.commands.cluster import main
from abhinaya.stream.commands.render import helm_values
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.settings.environment import trace_line_up
from abhinaya.stream.settings.profile import profiles

FILE = """
name = "calls"
profile = "{profile}"
keys = "the keys"
[ray]
[settings.supervise]
silent_s = 2.5
[settings.compliance]
judged = ["customer", 'a "b" \\ c']
[[machines]]
label = "m0"
address = "10.0.0.1"
head = true
[[machines]]
label = "m1"
address = "10.0.0.2"
gpus = 1
[[cells]]
name = "a"
port = 7100
machines = ["m1"]
[[cells]]
name = "b"
port = 7102
hub_cpus = 0.75
[scaling]
up_s = 2.5
down_s = 120
"""
SERVICES = {
    "embedded": "[services.asr]\nminimum = 2\nmaximum = 5\ncpus = 1.5\n",
    "own.toml": '[services.S1]\ngpus = 0.25\nmachines = ["m1"]\n',
}
OWN = """
[asr]
model = "faster-whisper"
[voters.S1]
model = "wavlm"
[voters.S1.options]
checkpoint = "/models/s1"
[vote]
priority = ["S1"]
"""


@pytest.fixture(params=list(SERVICES))
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Cluster:
    (tmp_path / "own.toml").write_text(OWN, "utf-8")
    path = tmp_path / "cluster.toml"
    path.write_text(FILE.replace("{profile}", request.param) + SERVICES[request.param], "utf-8")
    found = load(path)
    make(found)
    return found


def values_of(cluster: Cluster, *draining: str) -> dict[str, Any]:
    found = yaml.safe_load(helm_values(cluster, 7, draining))
    assert isinstance(found, dict)
    return found


def test_the_services_are_those_of_the_file(cluster: Cluster) -> None:
    values = values_of(cluster, "b")
    assert values["cells"] == [
        {"name": "a", "key": public_key(cluster, "a"), "state": "open", "machines": ["m1"]},
        {"name": "b", "key": public_key(cluster, "b"), "state": "draining"},
    ]
    assert (values["epoch"], values["hub"]) == (7, {"cpus": 0.75})
    assert values["scaling"] == {"age": 2.5, "down": 120}
    asr = {"gives": ["asr"], "cpus": 1.0, "gpus": 0, "minimum": 1, "maximum": 1, "torch": False}
    if cluster.config.profile == "embedded":
        more = {"gives": ["asr", "S1", "T2", "ST1"], "cpus": 1.5, "minimum": 2, "maximum": 5}
        assert values["services"] == {"asr": asr | more}
        return
    one = asr | {"gives": ["S1"], "gpus": 1, "torch": True, "machines": ["m1"]}
    assert values["services"] == {"asr": asr, "S1": one}
    assert "S1: Kubernetes shares no GPU: 1 in place of 0.25" in helm_values(cluster, 7)


def test_no_secret_is_in_the_values_and_each_has_its_command(cluster: Cluster) -> None:
    text = helm_values(cluster, 7)
    assert cluster.keys is not None
    for path in cluster.keys.rglob("*.key_secret"):
        secret = path.read_text("utf-8").partition('secret-key = "')[2][:40]
        assert len(secret) == 40
        assert secret not in text
    for part in (
        "cells/a",
        "cells/b",
        *(f"clients/{role}.key_secret" for role in ("node", "input", "reader")),
    ):
        assert f"--from-file='{cluster.keys}/{part}'" in text


@needs_helm
def test_all_that_the_chart_starts_has_the_settings_of_the_file(
    cluster: Cluster, tmp_path: Path
) -> None:
    objects = render(tmp_path, values_of(cluster))
    named = {r["metadata"]["name"]: r for r in objects if r["kind"] == "ConfigMap"}
    cells = decode(named["call-abhinaya-cells"]["data"]["cells.json"].encode(), "the chart")
    assert [c.key for c in cells.cells] == [public_key(cluster, name) for name in ("a", "b")]
    started = [pod["spec"]["containers"][0]["args"] for pod in map(pod_of, objects) if pod]
    assert {arguments[0] for arguments in started} == {"hub", "node", "serve"}
    for arguments in started:
        profile = arguments[arguments.index("--profile") + 1]
        if profile not in profiles():
            assert profile == "/etc/abhinaya/profile/profile.toml"
            profile = str(tmp_path / "mounted.toml")
            text = named["call-abhinaya-profile"]["data"]["profile.toml"]
            Path(profile).write_text(text, "utf-8")
        settings = [arguments[i + 1] for i, flag in enumerate(arguments) if flag == "--set"]
        found = trace_line_up(profile, settings, {}).config
        assert replace(found, profile=cluster.run.profile) == cluster.run


def test_the_command_prints_them(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["render", "--helm", str(tmp_path / "cluster.toml"), "--drain", "b"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["epoch"] > 1_700_000_000
    assert printed == values_of(cluster, "b") | {"epoch": printed["epoch"]}


def test_what_kubernetes_cannot_do_without_is_named(cluster: Cluster) -> None:
    with pytest.raises(ConfigError, match=r"--drain bb"):
        helm_values(cluster, 7, ["bb"])
    with pytest.raises(ConfigError, match="keys"):
        helm_values(replace(cluster, config=replace(cluster.config, keys="")), 7)
