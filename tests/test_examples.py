"""The examples do what they say, as a newcomer runs them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

from abhinaya.bench.demo import CALL
from abhinaya.models.labels import LABELS

EXAMPLES = ROOT / "examples"
pytestmark = pytest.mark.processes


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_label_file_prints_words_and_labels() -> None:
    lines = run(str(EXAMPLES / "label_file.py"), str(CALL)).splitlines()
    assert len(lines) >= 10
    assert {line.split()[2] for line in lines} <= {*LABELS, "unknown"}
    assert "tickets to Lisbon" in "".join(lines)


def test_folder_to_csv_writes_a_table(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    run(str(EXAMPLES / "folder_to_csv.py"), str(table), str(CALL), str(CALL))
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert {row["file"] for row in rows} == {"call", "call-2"}
    one, two = ([r | {"file": ""} for r in rows if r["file"] == f] for f in ("call", "call-2"))
    assert one == two


def test_listen_prints_partial_verdicts_first(tmp_path: Path) -> None:
    turn = tmp_path / "turn.wav"
    subprocess.run(
        [sys.executable, "-c", CUT, str(CALL), str(turn)], check=True, capture_output=True
    )
    lines = run(str(EXAMPLES / "listen.py"), str(turn)).splitlines()
    assert lines[0].startswith("~")
    assert any(line.startswith(" ") for line in lines)


def test_the_notebook_runs_from_top_to_bottom() -> None:
    cells = json.loads((EXAMPLES / "call.ipynb").read_text("utf-8"))["cells"]
    code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    assert not any(cell.get("outputs") for cell in cells)
    assert "call/customer" in run("-c", code)


CUT = """
import sys, wave
import numpy as np
from abhinaya.stream.sources.base import InputConfig
from abhinaya.stream.sources.opening import open_source

chunks = open_source(InputConfig(sys.argv[1])).chunks()
samples = np.concatenate([chunk.samples for chunk in chunks])[:64_000, 0]
with wave.open(sys.argv[2], "wb") as file:
    file.setparams((1, 2, 16_000, 0, "NONE", ""))
    file.writeframes((samples * 32767).astype("<i2").tobytes())
"""
