"""The bench of the gateway: every verdict reaches every reader, once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from abhinaya.bench import gateway


@pytest.mark.processes
def test_each_verdict_reaches_each_reader(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = ["--streams", "6", "--rate", "200", "--seconds", "0.5", "--json", str(report)]
    assert gateway.main(options) == 0
    (row,) = json.loads(report.read_text())["figures"]["rows"]
    assert row["sent"] == row["heard"] == 100
    assert row["dropped"] == 0
    assert 0 < row["late_ms"]["p50"] <= row["late_ms"]["p95"] <= row["longest_ms"] < 5000
