"""The chart as helm renders it, and where the tools for that are (`make helm`)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from places import ROOT

CHART = ROOT / "deploy" / "helm" / "abhinaya"
FOLDER = Path(os.environ.get("ABHINAYA_HELM", ROOT / "build" / "helm"))
HELM = FOLDER / "helm" / "helm"

needs_helm = pytest.mark.skipif(not HELM.exists(), reason=f"{HELM} is missing: run `make helm`")
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node is missing")

Resource = dict[str, Any]


def helm(*arguments: str, values: Path) -> subprocess.CompletedProcess[str]:
    command = [str(HELM), *arguments, "--values", str(values)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def render(folder: Path, values: dict[str, Any]) -> list[Resource]:
    """The objects of the chart with these values, in a release `call` of the namespace `voice`."""
    file = folder / "values.yaml"
    file.write_text(json.dumps(values), "utf-8")
    done = helm("template", "call", str(CHART), "--namespace", "voice", values=file)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def pod_of(resource: Resource) -> Resource | None:
    """The template of the pods of an object; None if it has none."""
    return resource["spec"]["template"] if "template" in resource.get("spec", {}) else None


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()
