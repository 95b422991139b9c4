"""The chart: every object is valid, and what must hold between them does."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from deploy.chart import (
    CHART,
    FOLDER,
    Resource,
    helm,
    needs_helm,
    needs_node,
    pod_of,
    render,
    selects,
)
from places import ROOT

from abhinaya.stream.cells.map import decode

pytestmark = needs_helm

KEYS = {name: letter * 40 for name, letter in (("a", "A"), ("b", "B"), ("c", "C"))}
SERVICE = {"minimum": 1, "maximum": 4, "gives": ["asr", "S1"], "cpus": 2, "gpus": 0}
VALUES: dict[str, Any] = {
    "epoch": 1_796_028_000,
    "settings": ["supervise.silent_s=4"],
    "cells": [
        {"name": "a", "key": KEYS["a"]},
        {"name": "b", "key": KEYS["b"], "state": "draining", "machines": ["m1"]},
        {"name": "c", "key": KEYS["c"], "state": "gone"},
    ],
    "services": {
        "asr": SERVICE,
        "S2": {**SERVICE, "maximum": 1, "gpus": 1, "memory": "40Gi", "torch": True},
    },
    "image": {"tags": {"b": "0.0.9"}},
    "models": {"claim": "weights"},
    "gateways": [{"name": "main"}, {"name": "next", "tag": "0.2.0"}],
    "gateway": {"tokens": "abhinaya-tokens"},
    "inputs": [{"name": "radio", "args": ["https://radio.example/live"]}],
    "ingress": {"enabled": True, "host": "monitor.example"},
    "monitoring": {"enabled": True},
}


@pytest.fixture(scope="module")
def resources(tmp_path_factory: pytest.TempPathFactory) -> list[Resource]:
    return render(tmp_path_factory.mktemp("chart"), VALUES)


@pytest.fixture(scope="module")
def pods(resources: list[Resource]) -> list[tuple[str, Resource]]:
    """(name, template) of everything that runs."""
    return [(r["metadata"]["name"], pod) for r in resources if (pod := pod_of(r))]


def labels(pod: Resource) -> dict[str, str]:
    return pod["metadata"]["labels"]


def component(pod: Resource) -> str:
    return labels(pod)["app.kubernetes.io/component"]


def test_it_has_no_fault_of_form(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(json.dumps(VALUES), "utf-8")
    done = helm("lint", "--strict", str(CHART), values=tmp_path / "values.yaml")
    assert done.returncode == 0, done.stdout


@needs_node
def test_every_object_fits_its_definition(resources: list[Resource]) -> None:
    foreign = [r for r in resources if r["apiVersion"].split("/")[0] in FOREIGN]
    assert {r["kind"] for r in foreign} == {"ScaledObject", "ServiceMonitor", "PrometheusRule"}
    for resource in resources:
        if resource not in foreign:
            kubernetes_validate.validate(resource, "1.37", strict=True)
    broken = json.loads(json.dumps(next(r for r in foreign if r["kind"] == "ScaledObject")))
    broken["spec"]["triggers"][0]["treshold"] = "2"
    done = subprocess.run(
        ["node", str(Path(__file__).with_name("resources.mjs")), str(FOLDER)],
        input=json.dumps([*foreign, broken]),
        capture_output=True,
        text=True,
        check=True,
    )
    name = broken["metadata"]["name"]
    assert json.loads(done.stdout) == [
        f"ScaledObject {name}: unknown field .spec.triggers.0.treshold"
    ]


FOREIGN = ("keda.sh", "monitoring.coreos.com")


def test_names_are_unique(resources: list[Resource]) -> None:
    names = [(r["kind"], r["metadata"]["name"]) for r in resources]
    assert len(set(names)) == len(names)


def test_a_cell_is_one_hub_and_its_nodes(resources: list[Resource]) -> None:
    hubs = {r["metadata"]["name"]: r["spec"] for r in resources if r["kind"] == "StatefulSet"}
    assert set(hubs) == {"call-abhinaya-hub-a", "call-abhinaya-hub-b"}  # c is gone
    services = {r["metadata"]["name"]: r["spec"] for r in resources if r["kind"] == "Service"}
    for name, spec in hubs.items():
        assert spec["replicas"] == 1
        assert spec["serviceName"] == name
        assert services[name]["clusterIP"] == "None"
    scaled = {r["spec"]["scaleTargetRef"]["name"] for r in resources if r["kind"] == "ScaledObject"}
    assert not scaled & set(hubs)
    assert scaled == {"call-abhinaya-a-asr", "call-abhinaya-b-asr"}  # S2 has no room to scale
    for resource in resources:
        if resource["metadata"]["name"] in scaled and resource["kind"] == "Deployment":
            assert "replicas" not in resource["spec"], "helm would undo what KEDA has set"


def test_each_process_has_the_image_of_its_cell_and_kind(pods: list[tuple[str, Resource]]) -> None:
    images = {
        name: {c["image"] for c in (*pod["spec"]["containers"], *pod["spec"]["initContainers"])}
        for name, pod in pods
    }
    assert images == {
        "call-abhinaya-hub-a": {"abhinaya:0.1.0"},
        "call-abhinaya-hub-b": {"abhinaya:0.0.9"},
        "call-abhinaya-a-asr": {"abhinaya:0.1.0"},
        "call-abhinaya-a-s2": {"abhinaya-cuda:0.1.0"},
        "call-abhinaya-b-asr": {"abhinaya:0.0.9"},
        "call-abhinaya-b-s2": {"abhinaya-cuda:0.0.9"},
        "call-abhinaya-gateway-main": {"abhinaya:0.1.0"},
        "call-abhinaya-gateway-next": {"abhinaya:0.2.0"},
        "call-abhinaya-input-radio": {"abhinaya:0.1.0"},
    }


def test_the_map_names_hubs_that_exist(resources: list[Resource]) -> None:
    found = next(r for r in resources if r["metadata"]["name"] == "call-abhinaya-cells")["data"]
    cells = decode(found["cells.json"].encode(), "the chart")
    assert cells.epoch == VALUES["epoch"]
    states = {c.name: (c.state, c.key, c.endpoint) for c in cells.cells}
    assert states == {
        name: (state, KEYS[name], f"tcp://call-abhinaya-hub-{name}.voice.svc:9000")
        for name, state in (("a", "open"), ("b", "draining"), ("c", "gone"))
    }
    services = {r["metadata"]["name"]: r for r in resources if r["kind"] == "Service"}
    for cell in cells.cells:
        if cell.state != "gone":
            assert [
                p["port"] for p in services[f"call-abhinaya-hub-{cell.name}"]["spec"]["ports"]
            ] == [9000, 9001]


GATEWAY = {"abhinaya-input", "abhinaya-reader", "abhinaya-tls", "abhinaya-tokens"}


def test_each_secret_is_mounted_where_it_belongs_and_nowhere_else(
    pods: list[tuple[str, Resource]],
) -> None:
    expected = {
        "call-abhinaya-hub-a": {"abhinaya-hub-a"},
        "call-abhinaya-hub-b": {"abhinaya-hub-b"},
        "call-abhinaya-a-asr": {"abhinaya-node"},
        "call-abhinaya-a-s2": {"abhinaya-node"},
        "call-abhinaya-b-asr": {"abhinaya-node"},
        "call-abhinaya-b-s2": {"abhinaya-node"},
        "call-abhinaya-gateway-main": GATEWAY,
        "call-abhinaya-gateway-next": GATEWAY,
        "call-abhinaya-input-radio": {"abhinaya-input"},
    }
    secrets: dict[str, set[str]] = {}
    for name, pod in pods:
        volumes = {}
        for volume in pod["spec"]["volumes"]:
            found = volume.get("secret", {}).get("secretName")
            sources = volume.get("projected", {}).get("sources", [])
            names = [found] if found else [s["secret"]["name"] for s in sources if "secret" in s]
            if names:
                volumes[volume["name"]] = set(names)
        secrets[name] = set().union(*volumes.values())
        for container in pod["spec"]["containers"]:
            mounted = {m["name"] for m in container["volumeMounts"]}
            assert not mounted & {"secret", "tokens"}, "only the container that copies sees them"
            assert all("secret" not in json.dumps(e).lower() for e in container.get("env", []))
    assert secrets == expected


def test_every_container_is_confined(pods: list[tuple[str, Resource]]) -> None:
    for name, pod in pods:
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        context = spec["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"]) == (10001, 10001)
        assert context["runAsNonRoot"] is True
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        for container in (*spec["containers"], *spec["initContainers"]):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            volumes = {v["name"]: v for v in spec["volumes"]}
            for mount in container["volumeMounts"]:
                volume = volumes[mount["name"]]  # no mount without its volume
                assert "hostPath" not in volume
                if "emptyDir" not in volume and mount["name"] != "data":
                    assert mount["readOnly"] is True, (name, mount)
        assert spec["terminationGracePeriodSeconds"] >= 30
        if component(pod) != "input":
            assert {"startupProbe", "livenessProbe"} <= set(spec["containers"][0])


def test_every_selector_selects_a_pod(
    resources: list[Resource], pods: list[tuple[str, Resource]]
) -> None:
    for resource in resources:
        spec, name = resource.get("spec", {}), resource["metadata"]["name"]
        for selector in selectors(spec):
            assert any(selects(selector, labels(pod)) for _, pod in pods), (name, selector)
        if resource["kind"] in ("Deployment", "StatefulSet"):
            assert selects(spec["selector"]["matchLabels"], labels(spec["template"]))
        if resource["kind"] == "Service":
            ports = {port["targetPort"] for port in spec["ports"]}
            for _, pod in pods:
                if selects(spec["selector"], labels(pod)):
                    own = pod["spec"]["containers"][0]["ports"]
                    assert ports <= {port["name"] for port in own}


def selectors(spec: Resource) -> Iterator[dict[str, str]]:
    """Every set of labels with which an object chooses pods."""
    for key, value in spec.items():
        if key == "selector":
            yield value.get("matchLabels", value)
        elif key in ("podSelector", "labelSelector"):
            yield value["matchLabels"]
        elif isinstance(value, dict):
            yield from selectors(value)
        elif isinstance(value, list):
            for entry in value:
                yield from selectors(entry) if isinstance(entry, dict) else ()


def test_every_pod_that_serves_has_one_budget_of_disruptions(
    resources: list[Resource], pods: list[tuple[str, Resource]]
) -> None:
    budgets = [r["spec"] for r in resources if r["kind"] == "PodDisruptionBudget"]
    for name, pod in pods:
        own = [b for b in budgets if selects(b["selector"]["matchLabels"], labels(pod))]
        kind = component(pod)
        assert [b["maxUnavailable"] for b in own] == {"input": [], "gateway": [0]}.get(kind, [1]), (
            name
        )


def test_who_reaches_whom(resources: list[Resource], pods: list[tuple[str, Resource]]) -> None:
    policies = [r["spec"] for r in resources if r["kind"] == "NetworkPolicy"]

    def reach(target: Resource) -> set[tuple[str, str]]:
        """(pod, port) that the policies of a pod let in."""
        own = [p for p in policies if selects(p["podSelector"]["matchLabels"], labels(target))]
        assert own, "a pod without a policy is open to all"
        assert all("Ingress" in p["policyTypes"] for p in own)
        found = set()
        for rule in (rule for p in own for rule in p.get("ingress", [])):
            assert rule["from"], "an empty list would let everybody in"
            for peer in rule["from"]:
                selector = peer.get("podSelector", {}).get("matchLabels")
                space = (
                    peer.get("namespaceSelector", {})
                    .get("matchLabels", {})
                    .get("kubernetes.io/metadata.name")
                )
                inside = [n for n, p in pods if selector and selects(selector, labels(p))]
                found |= {
                    (n, str(port["port"])) for n in inside or [space] for port in rule["ports"]
                }
        return found

    by_name = dict(pods)
    both = ("workers", "sinks")
    senders = (
        "call-abhinaya-gateway-main",
        "call-abhinaya-gateway-next",
        "call-abhinaya-input-radio",
    )
    for cell in ("a", "b"):
        assert reach(by_name[f"call-abhinaya-hub-{cell}"]) == {
            *((f"call-abhinaya-{cell}-{service}", "workers") for service in ("asr", "s2")),
            *((sender, port) for sender in senders for port in both),
        }
        assert reach(by_name[f"call-abhinaya-{cell}-asr"]) == set()
    assert reach(by_name["call-abhinaya-input-radio"]) == set()
    assert reach(by_name["call-abhinaya-gateway-main"]) == {
        ("ingress-nginx", "https"),
        ("monitoring", "https"),
    }
    for policy in policies:
        inner = policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        assert ("Egress" in policy["policyTypes"]) == (inner in ("hub", "node"))
        assert inner != "hub" or "egress" not in policy, "a hub calls nobody"
    for policy in policies:  # what a node has heard can go to its hub alone
        target = policy["podSelector"]["matchLabels"]
        if target["app.kubernetes.io/component"] == "node":
            hub, dns = policy["egress"]
            to = hub["to"][0]["podSelector"]["matchLabels"]
            assert to == {**target, "app.kubernetes.io/component": "hub"}
            assert {port["port"] for port in dns["ports"]} == {53}


def test_a_cell_is_scaled_by_its_own_oldest_segment(resources: list[Resource]) -> None:
    """By a figure that a gateway has; without it nothing changes, for 0 would end nodes."""
    described = (ROOT / "docs" / "operations.md").read_text("utf-8")
    row = next(
        line for line in described.splitlines() if "`abhinaya_hub_oldest_task_seconds`" in line
    )
    known = {*re.findall(r"`(\w+)`", row.split("|")[3]), "namespace"}
    for resource in resources:
        if resource["kind"] == "ScaledObject":
            (trigger,) = resource["spec"]["triggers"]
            cell = resource["metadata"]["labels"]["abhinaya-cell"]
            query = trigger["metadata"]["query"]
            found = dict(re.findall(r'(\w+)=~?"([^"]+)"', query))
            assert query.startswith("max(abhinaya_hub_oldest_task_seconds{")
            assert found == {"namespace": "voice", "cell": cell, "service": "asr|S1"}
            assert set(found) <= known
            assert trigger["metricType"] == "Value"
            assert trigger["metadata"]["ignoreNullValues"] == "false"
            assert float(trigger["metadata"]["threshold"]) > 0


def test_a_change_of_the_map_starts_no_pod_again(
    tmp_path: Path, pods: list[tuple[str, Resource]]
) -> None:
    cells = [{**VALUES["cells"][0], "state": "draining"}, *VALUES["cells"][1:]]
    later = render(tmp_path, {**VALUES, "cells": cells, "epoch": VALUES["epoch"] + 1})
    assert [(r["metadata"]["name"], pod) for r in later if (pod := pod_of(r))] == pods


def test_a_profile_of_ones_own_goes_to_all(tmp_path: Path) -> None:
    found = render(tmp_path, {**VALUES, "profile": "file", "profileFile": "[asr]\nmodel = 'x'\n"})
    text = next(r for r in found if r["metadata"]["name"] == "call-abhinaya-profile")["data"]
    assert text == {"profile.toml": "[asr]\nmodel = 'x'\n"}
    for pod in filter(None, map(pod_of, found)):
        arguments = pod["spec"]["containers"][0]["args"]
        assert arguments[arguments.index("--profile") + 1] == "/etc/abhinaya/profile/profile.toml"
        assert arguments[arguments.index("--set") + 1] == VALUES["settings"][0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cells": []}, "/cells"),
        ({"cells": [{"name": "a", "key": "short"}]}, "/cells/0/key"),
        ({"cells": [{"name": "a", "key": KEYS["a"], "stat": "open"}]}, "'stat' not allowed"),
        ({"epoch": 0}, "/epoch"),
        ({"gateway": {"storage": "much"}}, "/gateway/storage"),
        ({"services": {"asr": {**SERVICE, "gpus": 0.5}}}, "/services/asr/gpus"),
        ({"profile": "file"}, "profileFile"),
        ({"ingress": {"enabled": True}}, "ingress.host"),
    ],
)
def test_wrong_values_are_refused_by_name(tmp_path: Path, change: Resource, said: str) -> None:
    (tmp_path / "values.yaml").write_text(json.dumps({**VALUES, **change}), "utf-8")
    done = helm("template", "call", str(CHART), values=tmp_path / "values.yaml")
    assert done.returncode != 0
    assert said in done.stderr, done.stderr


def test_alerts_and_board_are_those_of_the_repository(resources: list[Resource]) -> None:
    board = next(r for r in resources if r["metadata"]["name"] == "call-abhinaya-board")
    text = (ROOT / "deploy" / "grafana" / "abhinaya.json").read_text("utf-8")
    assert board["data"]["abhinaya.json"] == text
    rules = next(r for r in resources if r["kind"] == "PrometheusRule")["spec"]["groups"]
    assert sum(len(group["rules"]) for group in rules) >= 6
