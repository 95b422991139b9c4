"""A refiner in a whole run: real processes, and a language model server that a test scripts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from scripted_server import Say, Scripted, completion, scripted

from abhinaya.bench.clips import spans
from abhinaya.bench.demo import CALL
from abhinaya.stream.commands import stream as cli
from abhinaya.stream.settings.config import VadConfig

pytestmark = pytest.mark.processes

Verdicts = dict[tuple[str, int], list[dict[str, Any]]]


def labelled(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Verdicts]:
    """Run the demo call by mean probabilities: each segment's verdicts, by revision."""
    mean = ("--set", "vote.method=mean", "--set", "vote.combiner=")
    code = cli.main([str(CALL), "--format", "jsonl", *mean, *arguments])
    found: Verdicts = {}
    for line in capfd.readouterr().out.splitlines():
        event = json.loads(line)
        if event["type"] == "verdict" and event["final"]:
            found.setdefault((event["stream"], event["segment"]), []).append(event)
    return code, found


def refiner(server: Scripted, **options: Any) -> list[str]:
    """Ask about every segment that has words, between the two labels in front."""
    settings = {
        "vote.refine_margin": 1.0,
        "refiner.model": "zero-shot",
        "refiner.options.base_url": server.url,
        "refiner.options.model": "m",
        "refiner.options.prosody": "true",
        **{f"refiner.options.{name}": value for name, value in options.items()},
    }
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


def choices(request: dict[str, Any]) -> list[str]:
    schema = request["response_format"]["json_schema"]["schema"]
    return list(schema["properties"]["emotion"]["enum"])


def test_close_calls_are_revised_to_what_the_refiner_chose(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def other_than_neutral(_: int, request: dict[str, Any]) -> Say:
        return Say(completion(next(x for x in choices(request) if x != "neutral")))

    with scripted(other_than_neutral) as server:
        code, found = labelled(capfd, *refiner(server))
        asked = server.requests
    assert code == 0
    assert asked
    assert all(len(choices(request)) == 2 for request in asked)
    assert all("How it was said:" in r["messages"][1]["content"] for r in asked)
    revised = [verdicts[-1] for verdicts in found.values() if len(verdicts) > 1]
    assert revised
    for verdict in revised:
        assert verdict["revision"] == 1
        assert verdict["refinement"]["voter"] == "refiner"
        assert verdict["label"] == verdict["refinement"]["label"] != "neutral"
        assert verdict["confidence"] <= max(
            v["probabilities"][verdict["label"]] for v in verdict["votes"]
        )
        assert "refiner" not in {m["voter"] for m in verdict["missing"]}
    assert all(verdicts[0]["refinement"] is None for verdicts in found.values())


@pytest.mark.slow
def test_a_refiner_that_hangs_changes_nothing_and_is_not_missed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with scripted(lambda *_: Say(completion("sad"), wait_s=60)) as server:
        code, found = labelled(capfd, *refiner(server, timeout_s=0.5, attempts=1))
        assert server.requests
    assert code == 0
    assert len(found) == len(spans(CALL, VadConfig()))
    for (verdict,) in found.values():  # no revision
        assert (verdict["revision"], verdict["refinement"]) == (0, None)
        assert verdict["missing"] == []
