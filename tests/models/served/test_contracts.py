"""T1's client against each server that docs/serving-t1.md names, by its recorded contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from chat_contracts import NAMES, SURE, answer, contract, playing
from chat_server import transformers_serve
from places import ROOT
from scripted_server import Say, completion, is_probe, scripted
from tiny_checkpoints import save_chat_llm

from abhinaya.models.base import Abstention, Ballot, Utterance
from abhinaya.models.labels import LABELS
from abhinaya.models.registry import load
from abhinaya.models.served.forms import Form, probe

SAID = [Utterance(np.zeros(0, np.float32), transcript=text) for text in ("no", "oh", "why")]


def votes(url: str, model: str, **options: Any) -> list[Ballot | Abstention]:
    return load("zero-shot", {"base_url": url, "model": model, **options}).vote(SAID)


@pytest.mark.parametrize("name", NAMES)
def test_the_client_finds_the_best_form_for_a_server(name: str) -> None:
    of = contract(name)
    with playing(name) as server:
        found = votes(server.url, of["model"])
        probes = [request for request in server.requests if is_probe(request)]
        asked = [request for request in server.requests if not is_probe(request)]
    assert [ballot.label for ballot in found] == ["sad"] * 3
    assert (len(probes), len(asked)) == (of["expected"]["probes"], 3)
    form = Form(of["expected"]["output"], of["expected"]["alternatives"])
    assert all(form.fields().items() <= request.items() for request in asked)
    assert form.fields().keys() == asked[0].keys() - {"model", "messages", "max_tokens"}
    for ballot in found:
        if of["alternatives"]:
            assert ballot.probabilities[LABELS.index("sad")] == pytest.approx(SURE)
        else:
            assert ballot.probabilities is None


@pytest.mark.parametrize("name", NAMES)
def test_another_model_and_a_long_prompt_are_a_vote_or_a_reason_in_a_line(name: str) -> None:
    of = contract(name)
    long = Utterance(np.zeros(0, np.float32), transcript="no", context=("word " * 400,) * 90)
    with playing(name) as server:
        voter = load("zero-shot", {"base_url": server.url, "model": "another"})
        wrong = voter.vote(SAID[:1])[0]
        many = {"base_url": server.url, "model": of["model"], "context_turns": 90}
        cut = load("zero-shot", many).vote([long])[0]
    for found, fault in ((wrong, "model"), (cut, "context")):
        assert isinstance(found, Abstention) == (fault in of["refusals"]), fault
        if isinstance(found, Abstention):
            body = of["refusals"][fault]["body"]
            error = body.get("error", body)
            assert error.get("message", error.get("detail"))[:60] in found.reason
            assert "\n" not in found.reason


@pytest.mark.parametrize("most", [20, 5, 0])
@pytest.mark.parametrize("telling", [True, False])
def test_fields_that_a_server_rejects_are_left_out(most: int, telling: bool) -> None:
    """A strict server without a restriction, as some providers are."""

    def picky(_: int, request: dict[str, Any]) -> Say:
        bad = [f for f in ("structured_outputs", "response_format") if f in request]
        bad += ["top_logprobs"] * (request.get("top_logprobs", 0) > most)
        if not bad:
            return Say(completion("sad"))
        message = f"unknown field {bad[0]}" if telling else "bad request"
        return Say({"error": {"message": message}}, status=400)

    with scripted(picky, probes=True) as server:
        assert votes(server.url, "m") == [Ballot("sad")] * 3
        asked = [request for request in server.requests if not is_probe(request)]
    assert len(asked) == 3
    assert "response_format" not in asked[0]
    assert asked[0].get("top_logprobs", 0) == (most if telling else 0)


def test_a_request_that_is_never_accepted_is_a_reason_and_finds_out_nothing() -> None:
    healthy = False

    def script(_: int, request: dict[str, Any]) -> Say:
        return Say(completion("sad")) if healthy else Say({"error": "not today"}, status=400)

    with scripted(script, probes=True) as server:
        voter = load("zero-shot", {"base_url": server.url, "model": "m"})
        assert voter.vote(SAID[:1])[0].reason == "the server rejects the request: not today"
        healthy = True
        assert voter.vote(SAID[:1])[0].label == "sad"
        assert server.requests[-1]["top_logprobs"] == 20


def test_the_guide_names_every_server_of_a_contract() -> None:
    guide = (ROOT / "docs" / "serving-t1.md").read_text("utf-8")
    for name in NAMES:
        assert contract(name)["server"] in guide


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else type(value).__name__


@pytest.mark.slow
@pytest.mark.processes
def test_transformers_serve_keeps_its_contract(tmp_path: Path) -> None:
    of = contract("transformers")
    model = str(save_chat_llm(tmp_path / "chat"))
    body = {"model": model, **probe(Form("text", 20))}
    cases = [body, body | {"model": "another"}, body | {"top_k": 50}]
    cases += [{"model": model, **probe(Form(output, 20))} for output in ("choice", "json_schema")]
    with transformers_serve(Path(model), tmp_path / "log") as url:
        for case in cases:
            real = httpx2.post(f"{url}/chat/completions", json=case, timeout=60)
            played = answer(of | {"model": model}, case)
            assert real.status_code == played.status, case
            if real.is_success:
                assert shape(real.json()) == shape(played.body)
            else:
                assert shape(real.json()) == {"detail": "str"}
        assert all(isinstance(vote, Ballot) for vote in votes(url, model))
