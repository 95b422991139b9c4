"""Grafana's board and the alerts: promtool evaluates each expression on a scrape."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from places import ROOT
from prometheus_client.parser import text_string_to_metric_families as parse
from prometheus_client.samples import Sample
from scrapes import filled

BOARD = ROOT / "deploy" / "grafana" / "abhinaya.json"
RULES = ROOT / "deploy" / "prometheus"
PROMTOOL = shutil.which("promtool")
by_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="needs promtool: apt-get install prometheus"
)


def promtool(*arguments: str, text: bytes = b"") -> str:
    done = subprocess.run([str(PROMTOOL), *arguments], input=text, capture_output=True, timeout=60)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


def panels() -> list[dict[str, Any]]:
    board: dict[str, Any] = json.loads(BOARD.read_text("utf-8"))
    return list(board["panels"])


def expressions() -> dict[str, str]:
    """Title and letter -> expression, with an interval in place of Grafana's variable."""
    return {
        f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "5m")
        for panel in panels()
        for target in panel["targets"]
    }


def series(sample: Sample) -> dict[str, str]:
    """Return a sample of a scrape as a series that grows by its value each minute."""
    labels = ",".join(f"{name}={json.dumps(value)}" for name, value in sample.labels.items())
    grows = sample.name.endswith(("_total", "_bucket", "_sum", "_count"))
    values = f"0+{sample.value}x30" if grows else f"{sample.value}x30"
    return {"series": f"{sample.name}{{{labels}}}", "values": values}


@by_promtool
def test_the_scrape_is_as_prometheus_wants_it() -> None:
    assert promtool("check", "metrics", text=filled().text()) == ""


@by_promtool
def test_each_panel_shows_something_of_a_scrape(tmp_path: Path) -> None:
    samples = [s for family in parse(filled().text().decode()) for s in family.samples]
    cases = [
        {
            "expr": f"count(({expression}) >= 0) > bool 0",
            "eval_time": "20m",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for expression in expressions().values()
    ]
    test = {"interval": "1m", "input_series": [*map(series, samples)], "promql_expr_test": cases}
    (tmp_path / "board.yml").write_text(json.dumps({"tests": [test]}))
    promtool("test", "rules", str(tmp_path / "board.yml"))
    assert len(cases) > 10
    # what this test trusts: an unknown name shows nothing
    cases[0]["expr"] = "count((abhinaya_unknown) >= 0) > bool 0"
    (tmp_path / "wrong.yml").write_text(json.dumps({"tests": [test]}))
    with pytest.raises(AssertionError):
        promtool("test", "rules", str(tmp_path / "wrong.yml"))


@by_promtool
def test_the_alerts_fire_when_they_should() -> None:
    promtool("check", "rules", str(RULES / "alerts.yml"))
    promtool("test", "rules", str(RULES / "alerts_test.yml"))


def test_the_board_fits_its_grid_and_each_metric_is_used() -> None:
    taken = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
    used = set(re.findall(r"abhinaya_\w+", " ".join(expressions().values())))
    names = {s.name for family in parse(filled().text().decode()) for s in family.samples}
    assert {name for name in names if not name.endswith(("_sum", "_count"))} == used
