"""A package of somebody else adds a voter, a transcriber, a source and an output format."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from abhinaya.stream import Monitor
from abhinaya.stream.sinks.events import to_dict
from abhinaya.stream.wire.messages import Verdict

pytestmark = pytest.mark.processes


SITE = ROOT / "tests" / "plugin"
"""A folder as pip leaves it when it has installed that package."""
ENVIRONMENT = os.environ | {"PYTHONPATH": str(SITE)}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "abhinaya.stream", *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=200,
    )


def profile(folder: Path, *voters: str) -> str:
    file = folder / "acme.toml"
    lines = ["[asr]", 'model = "lengths"']
    for voter in voters:
        lines += [f"[voters.{voter}]", f'model = "{voter}"']
    file.write_text("\n".join(lines))
    return str(file)


def test_each_kind_of_plug_in_is_used_by_its_name(tmp_path: Path) -> None:
    log, tally = tmp_path / "events.jsonl", tmp_path / "labels.tally"
    done = run(
        "tone://four-seconds", "--profile", profile(tmp_path, "loudness"),
        "--output", str(log), "--output", str(tally),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "plays four seconds" in done.stdout + done.stderr
    events = [json.loads(line) for line in log.read_text().splitlines()]
    verdicts = [event for event in events if event["type"] == "verdict"]
    assert verdicts
    assert {v["votes"][0]["model"] for v in verdicts} == {"loudness"}
    assert all(v["transcript"]["text"].endswith("seconds") for v in verdicts)
    counts = Counter(v["label"] for v in verdicts)
    assert tally.read_text() == "".join(f"{label} {n}\n" for label, n in counts.items())
    again = tmp_path / "again.tally"
    command = "import sys; from abhinaya.stream.commands.main import main; sys.exit(main())"
    subprocess.run(
        [sys.executable, "-c", command, "convert", str(log), str(again)],
        env=ENVIRONMENT,
        check=True,
    )
    assert again.read_text() == tally.read_text()


def test_attributes_of_plug_ins_reach_the_events_the_same_way_through_processes_and_monitor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, log = ("loudness", "moods", "rates", "wild"), tmp_path / "events.jsonl"
    own = profile(tmp_path, *names)
    done = run("tone://x", "--profile", own, "--output", str(log))
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in log.read_text().splitlines()]
    verdicts = [event for event in events if event["type"] == "verdict"]
    assert verdicts
    for verdict in verdicts:
        votes = {vote["voter"]: vote for vote in verdict["votes"]}
        assert "attributes" not in votes["loudness"]
        assert votes["rates"]["label"] == ""
        assert votes["rates"]["attributes"] == {"arousal": 1.0, "valence": 4.0, "dominance": 7.0}
        mean = votes["moods"]["attributes"]["arousal"] / 2 + 0.5
        expected = {"arousal": pytest.approx(mean, abs=1e-4), "valence": 4.0, "dominance": 5.5}
        assert verdict["attributes"] == expected
        assert (verdict["label"], verdict["agreement"]) == (votes["loudness"]["label"], 1.0)
        (missing,) = verdict["missing"]
        assert missing["voter"] == "wild"
        assert "attributes" in missing["reason"]

    monkeypatch.syspath_prepend(str(SITE))
    with Monitor(profile=own) as monitor:
        came = [v for v in monitor.events("tone://x") if isinstance(v, Verdict)]
    rows = [to_dict(v, 0.0) for v in came]
    for key in ("label", "confidence", "agreement", "attributes", "missing", "start_s", "end_s"):
        assert [row[key] for row in rows] == [verdict[key] for verdict in verdicts]
    assert came[0].attributes is not None
    assert came[0].attributes.dominance == 5.5


def test_those_that_cannot_work_are_named_and_the_others_go_on(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    done = run(
        "tone://x", "--profile", profile(tmp_path, "loudness", "broken", "strange", "lost"),
        "--output", str(log), "--set", "supervise.restarts=1",
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    events = [json.loads(line) for line in log.read_text().splitlines()]
    verdicts = [event for event in events if event["type"] == "verdict"]
    assert verdicts, done.stderr
    assert all(v["votes"][0]["voter"] == "loudness" for v in verdicts)
    told = done.stdout + done.stderr + json.dumps(verdicts)
    assert "plug-in 'broken' of acme-abhinaya" in told
    assert "labels that are not among the eight: bored" in told
    assert "acme's server is away" in told


def test_a_name_that_is_nearly_a_plug_in_is_suggested(tmp_path: Path) -> None:
    done = run("tone://x", "--profile", profile(tmp_path, "loudnes"))
    assert "did you mean 'loudness'?" in done.stderr + done.stdout
    done = run("tone://x", "--output", str(tmp_path / "x.taly"))
    assert "did you mean '.tally'?" in done.stderr


def test_a_node_whose_model_goes_wrong_is_taken_out_named_and_started_again(tmp_path: Path) -> None:
    wrong, log = tmp_path / "wrong", tmp_path / "events.jsonl"
    (tmp_path / "turns.toml").write_text(
        "[supervise]\ncanary_s = 0.5\n[voters.turns]\nmodel = 'turns'\n"
        f"[voters.turns.options]\nfile = '{wrong}'\n"
    )
    command = [sys.executable, "-m", "abhinaya.stream", "-", "--rate", "16000"]
    command += ["--sample-format", "s16le"]
    command += ["--profile", str(tmp_path / "turns.toml"), "--output", str(log)]
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as run:

        def wait_for(kind: str, count: int) -> list[dict[str, Any]]:
            until = time.monotonic() + 60
            while time.monotonic() < until:
                lines = log.read_text().splitlines() if log.exists() else []
                found = [e for e in map(json.loads, lines) if e["type"] == kind]
                if len(found) >= count:
                    return found
                time.sleep(0.1)
            raise AssertionError(f"{kind} did not come {count} times")

        wait_for("node_up", 1)
        time.sleep(2)
        wrong.touch()
        (down,) = wait_for("node_down", 1)
        assert "its answer to the test recording is wrong: angry 1.00, not 0.00" in down["reason"]
        wrong.unlink()
        wait_for("node_up", 2)
        assert run.stdin
        run.stdin.write(bytes(64_000))
        run.stdin.close()
        assert run.wait(30) == 0
