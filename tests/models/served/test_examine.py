"""`abhinaya models check zero-shot --base-url`: what a server can, and what would help it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from chat_contracts import NAMES, contract, playing
from scripted_server import Say, completion, scripted

from abhinaya.models.cli import main


def check(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["check", "zero-shot", "--requests", "3", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


EXPECTED = {
    "vllm": ("replies: choice (choice works; json_schema works)", "3;", "prefix cache: 74%"),
    "sglang": ("replies: choice (choice works; json_schema works)", "3;", "--enable-cache-report"),
    "llama-cpp": ("replies: choice (choice works; json_schema works)", "3;", "prefix cache:"),
    "ollama": ("replies: json_schema (choice ignored; json_schema works)", "3;", "not visible"),
    "transformers": (
        "replies: not restricted (choice rejected: Unexpected fields",
        "none",
        "- T1 votes without probabilities",
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_server_is_described(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    of = contract(name)
    with playing(name) as server:
        code, said, fault = check(capsys, "--base-url", server.url, "--model", of["model"])
    assert (code, fault) == (0, "")
    lists = of["get"]["/v1/models"] is not None
    assert said.startswith(f"server: {of['server'] if lists else 'it does not say'}")
    assert f"model: {of['model']}" in said
    assert "votes: sad 3" in said
    restriction, alternatives, cache = EXPECTED[name]
    assert restriction in said
    assert cache in said
    assert f"log-probabilities: {alternatives}" in said
    assert ("1.00 of the probability is on labels" in said) == bool(of["alternatives"])


def test_the_only_model_is_taken_and_several_are_listed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with playing("vllm") as server:
        assert "model: meta-llama" in check(capsys, "--base-url", server.url)[1]
    with playing("ollama") as server:
        code, _, fault = check(capsys, "--base-url", server.url)
        assert code == 2
        assert "the server has qwen3:4b-instruct, bge-m3:latest" in fault
        wrong = check(capsys, "--base-url", server.url, "--model", "qwen")
        assert wrong[0] == 6
        assert "the server lists qwen3:4b-instruct" in wrong[2]
    with playing("transformers") as server:
        assert "--model: the server at" in check(capsys, "--base-url", server.url)[2]


def test_a_slow_or_confused_server_is_told_what_would_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tokens = [{"token": t, "logprob": p} for t, p in (("sad", -1.2), ("I", -0.4))]
    content = [{"token": "sad", "logprob": -1.2, "top_logprobs": tokens}]

    def script(_: int, request: dict[str, Any]) -> Say:
        usage = {"prompt_tokens": 200, "prompt_tokens_details": {"cached_tokens": 20}}
        reply = completion("sad", logprobs={"content": content})
        return Say(reply | {"usage": usage})

    pages = {
        "/v1/models": Say({"data": [{"id": "m", "max_model_len": 512}]}),
        "/version": Say({"version": "0.33.0"}),
    }
    with scripted(script, pages=pages) as server:
        code, said, _ = check(
            capsys, "--base-url", server.url, "--option", "concurrency=1", "--requests", "4"
        )
    assert code == 0
    assert "0.30 of the probability is on labels" in said
    for remedy in ("instruction-tuned", "512 tokens are few", "switch prefix caching on"):
        assert remedy in said


BODY = json.dumps({"data": "nothing"})


@pytest.mark.parametrize(
    ("arguments", "fault", "code"),
    [
        (["--base-url", "ftp://h"], "is not a web address", 2),
        (["--base-url", "http://10.0.0.1/v1"], "unencrypted", 2),
        (["--base-url", "http://127.0.0.1:9/v1"], "cannot be reached; is it running", 6),
        (["--model", "m"], "the address is missing; add --base-url URL", 2),
        (["--base-url", "http://[::1]/v1", "--requests", "0"], "--requests 0", 2),
        (["--base-url", "http://[::1]/v1", "--option", "concurency=3"], "concurency", 2),
    ],
)
def test_what_cannot_be_checked_is_a_line(
    arguments: list[str], fault: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    found = check(capsys, *arguments)
    assert found[0] == code
    assert fault in found[2]
    assert found[2].count("\n") == 1


@pytest.mark.parametrize(
    ("page", "reply", "fault"),
    [
        (Say(BODY), Say(completion("sad")), "list of models is not as expected"),
        (Say({"error": "bad key"}, 401), Say(completion("sad")), "refuses requests without a key"),
        (Say({"data": [{"id": "m"}]}), Say("<html>"), "no chat completion"),
        (Say({"data": [{"id": "m"}]}), Say("", 500), "failed (500"),
        (Say({"data": [{"id": "m"}]}), Say(completion("well")), "no reply was a vote"),
    ],
)
def test_faults_of_a_server_are_a_line(
    page: Say, reply: Say, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with scripted(lambda *_: reply, pages={"/v1/models": page}) as server:
        found = check(capsys, "--base-url", server.url)
    assert found[0] in (2, 6)
    assert fault in found[2]
    assert found[2].count("\n") == 1


def test_only_the_served_model_has_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "tiny-text", "--base-url", "http://[::1]/v1"]) == 2
    assert "tiny-text has no server; check zero-shot" in capsys.readouterr().err
