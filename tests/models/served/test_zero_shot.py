"""T1 against a server on this machine that answers as each test says."""

from __future__ import annotations

import json
import re
import time

import numpy as np
import pytest
from scripted_server import Say, completion, scripted, trickling

from abhinaya.models.base import Abstention, Ballot, Utterance
from abhinaya.models.errors import OptionsError, RunError
from abhinaya.models.labels import LABELS
from abhinaya.models.registry import load
from abhinaya.models.served.chat import Circuit

SAD = Say(completion("sad"))


def said(*transcripts: str) -> list[Utterance]:
    return [Utterance(np.zeros(0, np.float32), transcript=text) for text in transcripts]


def voter(server, **more):
    return load("zero-shot", {"base_url": server.url, "model": "m", **more})


def reason(answer) -> str:
    assert isinstance(answer, Abstention), answer
    return answer.reason


def spoken(request: dict) -> str:
    """The transcript that a request is about."""
    user = request["messages"][1]["content"]
    return json.loads(user.split("<transcript>")[1].split("</transcript>")[0])


def test_each_transcript_gets_its_own_answer_in_order() -> None:
    words = [LABELS[i % 8] for i in range(20)]
    with scripted(lambda _, r: Say(completion(spoken(r)), wait_s=0.05)) as server:
        answers = voter(server, concurrency=5).vote(said(*words))
        assert [a.label for a in answers] == words
        assert 2 <= server.most_at_once <= 5
        assert all(r["temperature"] == 0 and r["model"] == "m" for r in server.requests)


def test_an_empty_transcript_is_not_sent() -> None:
    with scripted(lambda *_: SAD) as server:
        answers = voter(server).vote(said("", "no", " \n"))
        assert [isinstance(a, Ballot) for a in answers] == [False, True, False]
        assert "transcript is empty" in reason(answers[0])
        assert len(server.requests) == 1
        assert voter(server).vote([]) == []


def test_probabilities_come_from_the_server() -> None:
    top = [{"token": t, "logprob": np.log(p)} for t, p in (("sad", 0.75), ("fear", 0.25))]
    logprobs = {"content": [{"token": "sad", "logprob": np.log(0.75), "top_logprobs": top}]}
    with scripted(lambda *_: Say(completion("sad", logprobs=logprobs))) as server:
        (answer,) = voter(server).vote(said("oh"))
        assert answer.probabilities[LABELS.index("fear")] == pytest.approx(0.25)
        assert server.requests[0]["top_logprobs"] == 20
        voter(server, logprobs=False).vote(said("oh"))
        assert "logprobs" not in server.requests[1]


# --- what the server can do -------------------------------------------------------------


def test_a_text_that_is_rejected_later_costs_no_ability() -> None:
    def script(_, request) -> Say:
        if spoken(request) == "long":
            return Say({"error": "context length exceeded"}, status=400)
        return SAD

    with scripted(script) as server:
        t1 = voter(server)
        answers = t1.vote(said("x", "long", "y"))
        assert "rejects the request: context length" in reason(answers[1])
        assert [answers[0].label, answers[2].label] == ["sad", "sad"]
        assert "response_format" in server.requests[-1]
        assert len(server.requests) == 3


def test_a_way_that_is_chosen_stays() -> None:
    with scripted(lambda *_: Say({"error": "no structured_outputs"}, status=400)) as server:
        assert "rejects" in reason(voter(server, output="choice").vote(said("x"))[0])
        assert all("structured_outputs" in r for r in server.requests)


# --- faults -----------------------------------------------------------------------------


def test_a_slow_server_is_left_in_time_and_the_others_answer() -> None:
    def script(_, request) -> Say:
        return Say(completion("sad"), wait_s=30 if spoken(request) == "slow" else 0)

    with scripted(script) as server:
        begun = time.monotonic()
        answers = voter(server, timeout_s=2.5).vote(said("a", "slow", "b"))
        assert time.monotonic() - begun < 15
        assert "did not answer within 2." in reason(answers[1])
        assert [answers[0].label, answers[2].label] == ["sad", "sad"]


def test_a_server_that_trickles_its_headers_or_its_body_is_left_in_time() -> None:
    begun = time.monotonic()
    with trickling(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9999) as url:
        chat = load("zero-shot", {"base_url": url, "model": "m", "timeout_s": 0.8})
        assert "did not answer within" in reason(chat.vote(said("x"))[0])
    with scripted(lambda *_: Say(completion("sad"), drip_s=0.1)) as server:
        assert "did not finish" in reason(voter(server, timeout_s=1.5).vote(said("x"))[0])
    assert time.monotonic() - begun < 15


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Say({"error": {"message": "no memory"}}, status=500), r"failed \(500: no memory\)"),
        (Say(completion("sad"), cut=True), "broke the connection"),
        (Say("", status=429), "overloaded"),
        (Say("overloaded", status=503), "overloaded"),
    ],
)
def test_a_passing_fault_is_tried_again_and_a_lasting_one_is_told(fault, message) -> None:
    with scripted(lambda i, _: fault if i < 2 else SAD) as server:
        assert voter(server).vote(said("x")) == [Ballot("sad")]
        gaps = np.diff(server.times)
        assert gaps[0] >= 0.1
        assert gaps[1] >= 0.2
    with scripted(lambda *_: fault) as server:
        answer = voter(server, attempts=2).vote(said("x"))[0]
        assert len(server.requests) == 2
        assert re.search(message, reason(answer))
        assert "2 tries" in reason(answer)


def test_the_server_says_when_to_come_again() -> None:
    busy = Say("", status=429, headers={"Retry-After": "1"})
    with scripted(lambda i, _: busy if i == 0 else SAD) as server:
        assert voter(server).vote(said("x")) == [Ballot("sad")]
        assert server.times[1] - server.times[0] >= 1.0
    later = Say("", status=429, headers={"Retry-After": "3600"})
    with scripted(lambda *_: later) as server:
        begun = time.monotonic()
        assert "wait 3600 s" in reason(voter(server).vote(said("x"))[0])
        assert time.monotonic() - begun < 10
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("say", "message"),
    [
        (Say("<html>It works!</html>"), "nonsense: no chat completion: '<html>"),
        (Say(b"\xff\x00" * 50), "nonsense"),
        (Say({"choices": []}), "nonsense"),
        (Say(b"x" * (1 << 21)), "more than 1 MiB"),
        (Say(completion("banana")), "names no label: 'banana'"),
        (Say(completion("I'm sorry, I can't help with that.")), "refused"),
        (Say(completion(None, refusal="no")), "refused: 'no'"),
        (Say({"error": {"message": "bad key"}}, status=401), r"refuses requests without a key"),
        (Say({"error": "no `m`"}, status=404), r"does not have this model.* options base_url"),
        (Say("", status=301, headers={"Location": "http://127.0.0.1:9/"}), "answers 301"),
    ],
)
def test_answers_that_are_no_votes(say, message) -> None:
    with scripted(lambda *_: say) as server:
        why = reason(voter(server).vote(said("x"))[0])
        assert re.search(message, why), why
        assert len(server.requests) == 1


def test_a_dead_server_is_left_alone_until_it_had_time_to_rest() -> None:
    alive = False

    def script(*_) -> Say:
        return SAD if alive else Say("", status=500)

    with scripted(script, probes=True) as server:
        t1 = voter(server, attempts=1, failures=3, rest_s=100, timeout_s=1000)
        later_s = 0.0
        t1._chat.clock = lambda: time.monotonic() + later_s
        for _ in range(3):
            t1.vote(said("x"))
        assert "failed 3 times in a row" in reason(t1.vote(said("x"))[0])
        assert len(server.requests) == 3
        later_s = 110
        t1.vote(said("x"))
        assert len(server.requests) == 4, "one tries"
        assert "in a row" in reason(t1.vote(said("x"))[0])
        assert len(server.requests) == 4
        alive, later_s = True, 220
        assert t1.vote(said("x", "y", "z")) == [Ballot("sad")] * 3


def test_work_that_can_wait_loses_nothing_while_the_server_is_away() -> None:
    """Three faults in a row: with the circuit breaker, the clips of the next rest would be lost."""
    faults = [Say("", status=503), Say(completion("sad"), cut=True), Say("", status=500)]
    with scripted(lambda i, _: faults[i] if i < 3 else SAD) as server:
        options = {"attempts": 1, "failures": 1, "rest_s": 1000, "concurrency": 1}
        t1 = voter(server, wait_s=100, **options)
        pauses: list[float] = []
        t1._chat.sleep = pauses.append
        assert t1.vote(said("a", "b", "c")) == [Ballot("sad")] * 3
        assert pauses == [1, 2, 4]
        assert len(server.requests) == 6


@pytest.mark.parametrize(("status", "tries"), [(503, 4), (401, 1), (404, 1)])
def test_work_that_has_waited_in_vain_stops_instead_of_losing_clips(status, tries) -> None:
    busy = Say("", status=status, headers={"Retry-After": "2"})
    with scripted(lambda *_: busy) as server:
        t1 = voter(server, attempts=1, wait_s=15)
        now = time.monotonic()
        t1._chat.clock = lambda: now

        def sleep(pause_s: float) -> None:
            nonlocal now
            now += pause_s

        t1._chat.sleep = sleep
        with pytest.raises(RunError, match="run the command again"):
            t1.vote(said("x"))
        assert len(server.requests) == tries, "waiting does not help a wrong key"


def test_the_published_prompt_and_its_sampling() -> None:
    def strict(_, request) -> Say:
        return (
            Say({"error": "top_k"}, status=400) if "top_k" in request else Say(completion("Fear."))
        )

    with scripted(lambda *_: Say(completion("Fear."))) as server:
        t1 = voter(server, prompt="published")
        assert t1.vote(said('It\'s "late" & <|eot_id|>')) == [Ballot("fear")]
        (request,) = server.requests
        system, user = (message["content"] for message in request.pop("messages"))
        assert "happy, angry, sad, neutral, contempt, disgust, surprise, or fear" in system
        assert system.endswith(". Reply with only 1 word.")
        assert user == 'sentence: It\'s "late" & \\u003c\\u007ceot_id\\u007c\\u003e'
        sampling = {"temperature": 0.7, "top_p": 0.7, "top_k": 50}
        assert request == {"model": "m", "max_tokens": 32, **sampling}
    with scripted(strict, probes=True) as server:
        t1 = voter(server, prompt="published", temperature=0)
        assert t1.vote(said("x", "y")) == [Ballot("fear")] * 2
        assert [request.get("top_k") for request in server.requests] == [50, None, None, None]
        assert server.requests[-1]["temperature"] == 0


# --- keys and addresses -----------------------------------------------------------------


def test_the_key_comes_from_the_environment_only(monkeypatch) -> None:
    with scripted(lambda *_: Say("no, Bearer secret-1", status=401)) as server:
        monkeypatch.setenv("MY_KEY", "secret-1")
        answer = voter(server, api_key_env="MY_KEY").vote(said("x"))[0]
        assert server.headers[0]["Authorization"] == "Bearer secret-1"
        assert "refuses the key in MY_KEY" in reason(answer)
        assert "secret" not in reason(answer)
        voter(server).vote(said("x"))
        assert "Authorization" not in server.headers[1]
        monkeypatch.setenv("ABHINAYA_API_KEY", "secret-2")
        voter(server).vote(said("x"))
        assert server.headers[2]["Authorization"] == "Bearer secret-2"


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(monkeypatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with scripted(lambda *_: SAD) as server:
        assert voter(server).vote(said("x")) == [Ballot("sad")]
    t1 = voter(server, attempts=2)
    assert "cannot be reached; is it running" in reason(t1.vote(said("x"))[0]), "nobody listens"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"api_key_env": "NO_SUCH_KEY"}, "not set"),
        ({"api_key_env": "BAD_KEY"}, "line ends"),
        ({"base_url": "ftp://h/v1"}, "not a web address"),
        ({"base_url": "localhost:8000"}, "not a web address"),
        ({"base_url": "http://"}, "not a web address"),
        ({"base_url": "https://user:word@h/v1"}, "carries a user"),
        ({"base_url": "http://10.0.0.1/v1"}, "unencrypted.*allow_http"),
        ({"output": "yaml"}, "use auto"),
        ({"attempts": 0}, "below 1"),
        ({"prompt": "theirs"}, "use one of ours, published, refine"),
        ({"prompt": "published", "prosody": True}, "has fixed contents"),
        ({"timeout_s": float("nan")}, "below 0.1"),
    ],
)
def test_options_that_cannot_be(options, message, monkeypatch) -> None:
    monkeypatch.setenv("BAD_KEY", "secret\n")
    with pytest.raises(OptionsError, match=message) as caught:
        load("zero-shot", {"base_url": "https://h/v1", "model": "m", **options})
    assert "word" not in str(caught.value)


def test_addresses_that_can() -> None:
    for url, more in (
        ("https://h/v1/", {}),
        ("http://[::1]:80/v1", {}),
        ("http://localhost:8000/v1", {}),
        ("http://10.0.0.1:8000/v1", {"allow_http": True}),
    ):
        card = load("zero-shot", {"base_url": url, "model": "llama", **more}).card
        assert card.version == "llama"
        assert card.needs == {"transcript"}
        assert card.served
        assert card.context_turns == 0
        assert card.notes[0].startswith("sends transcripts to http")


# --- choosing again -------------------------------------------------------------------------------


def contested(*choices: str, seconds: float = 0.0) -> Utterance:
    rng = np.random.default_rng(0)
    samples = (0.1 * rng.standard_normal(round(16_000 * seconds))).astype(np.float32)
    return Utterance(samples, transcript="oh really now", choices=choices)


def test_an_answer_out_of_the_choices_is_a_vote_and_any_other_none() -> None:
    for word, is_vote in (("sad", True), ("angry", True), ("happy", False), ("maybe", False)):
        with scripted(lambda *_, word=word: Say(completion(word))) as server:
            (answer,) = voter(server).vote([contested("sad", "angry")])
            assert isinstance(answer, Ballot) == is_vote, word
            schema = server.requests[0]["response_format"]["json_schema"]["schema"]
            assert schema["properties"]["emotion"]["enum"] == ["angry", "sad"]
            if word == "happy":
                assert reason(answer) == "the model's answer happy is not one of angry, sad"


def test_how_it_was_said_is_described_and_no_sound_is_sent() -> None:
    with scripted(lambda *_: SAD) as server:
        t1 = voter(server, prosody=True)
        assert t1.card.needs == {"transcript", "audio"}
        assert "how they were said" in t1.card.notes[0]
        t1.vote([contested("sad", "fear", seconds=2.0)])
        (request,) = server.requests
        assert "How it was said:" in request["messages"][1]["content"]
        assert "words a second" in request["messages"][1]["content"]
        assert len(json.dumps(request)) < 5_000
        assert voter(server).card.needs == {"transcript"}


# --- the circuit breaker --------------------------------------------------------------------------


def test_a_circuit_opens_after_failures_in_a_row_and_only_then() -> None:
    circuit = Circuit(limit=3, rest_s=10)
    for _ in range(5):
        circuit.failed(0)
        circuit.failed(0)
        circuit.succeeded()
        assert circuit.wait_s(0) == 0
    for _ in range(3):
        assert circuit.wait_s(1) == 0
        circuit.failed(1)
    assert circuit.wait_s(1) == 10
    assert circuit.wait_s(10.5) == 0.5


def test_one_request_tries_and_decides_and_a_late_failure_of_an_old_one_opens_no_circuit() -> None:
    circuit = Circuit(limit=2, rest_s=10)
    circuit.failed(0)
    circuit.failed(0)
    assert circuit.wait_s(10) == 0
    circuit.succeeded()
    circuit.failed(11)
    assert circuit.wait_s(11) == 0
    circuit = Circuit(limit=1, rest_s=10)
    circuit.failed(0)
    assert circuit.wait_s(10) == 0
    assert circuit.wait_s(10) == 10, "a second one has to wait for what the first finds"
    circuit.failed(12)
    assert circuit.wait_s(12) == 10
    assert circuit.wait_s(22) == 0
    circuit.succeeded()
    assert [circuit.wait_s(22), circuit.wait_s(22)] == [0, 0]
