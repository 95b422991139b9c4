"""T1: a language model on a server reads a transcript and names one of the labels.

Any server with an OpenAI-compatible chat API works: vLLM, SGLang, llama.cpp, Ollama, or
`transformers serve`; docs/serving-t1.md has commands. Before the first transcript, `forms.py` finds
out which form of a request the server understands.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Literal, get_args

from abhinaya.models.base import Abstention, Ballot, Card, Utterance
from abhinaya.models.errors import OptionsError, RunError
from abhinaya.models.labels import LABELS
from abhinaya.models.served.chat import (
    Access,
    Chat,
    Circuit,
    RejectedError,
    ServerError,
    checked_url,
)
from abhinaya.models.served.forms import ALTERNATIVES, OUTPUTS, Form, Output, find
from abhinaya.models.served.prompting import (
    PUBLISHED_SAMPLING,
    REFINE_SAMPLING,
    labels_of,
    messages,
    published_messages,
    refine_messages,
)
from abhinaya.models.served.prosody import describe, measure
from abhinaya.models.served.replies import NonsenseError, Reply, judge, judge_refined, read_reply

DEFAULT_KEY_ENV: Final = "ABHINAYA_API_KEY"
Prompt = Literal["ours", "published", "refine"]
_SAMPLING: Final[Mapping[Prompt, Mapping[str, float]]] = {
    "ours": {"temperature": 0.0},
    "published": PUBLISHED_SAMPLING,
    "refine": REFINE_SAMPLING,
}


class ZeroShot:
    """A served language model as a voter.

    Options: `base_url`, which ends in /v1; `model`, its name on the server; `api_key_env`, the
    environment variable with the key (default: ABHINAYA_API_KEY, if set); `output`, how replies are
    restricted to the labels (auto: the first way that works); `logprobs`, request probabilities;
    `max_tokens`, limit of a reply (raise it for a model that reasons); `timeout_s`, limit of a
    whole batch with its retries; `attempts`, tries of one request; `concurrency`, requests at the
    same time; `failures`, number in a row after which no request is sent for `rest_s`; `wait_s`,
    for work without a time limit: seconds to wait for a server that does not answer, after which
    the run ends with an error (`timeout_s` then limits one request); `prompt`, ours, published, or
    refine, which asks for a better label than the first choice, as EMOJUDGE's refiner does;
    `temperature`, by default 0 for ours, 0.7 and 0.3, as published, for the others;
    `context_turns`, earlier turns of the conversation in the prompt; `prosody`, describe the
    voice in the prompt (reads the audio, but does not send it); `allow_http`, allow another machine
    without encryption; `licence` and `noncommercial`, as on the model's page.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key_env: str | None = None,
        output: Literal["auto", "choice", "json_schema", "text"] = "auto",
        logprobs: bool = True,
        max_tokens: int = 32,
        timeout_s: float = 15.0,
        attempts: int = 3,
        concurrency: int = 8,
        failures: int = 5,
        rest_s: float = 15.0,
        wait_s: float = 0.0,
        prompt: Prompt = "ours",
        temperature: float | None = None,
        context_turns: int = 0,
        prosody: bool = False,
        allow_http: bool = False,
        licence: str = "the served model's own",
        noncommercial: bool = False,
    ) -> None:
        if output not in ("auto", *OUTPUTS):
            raise OptionsError(f"output {output!r}", "unknown", f"use auto, {', '.join(OUTPUTS)}")
        _check_least(max_tokens=(max_tokens, 1), attempts=(attempts, 1), failures=(failures, 1))
        _check_least(concurrency=(concurrency, 1), context_turns=(context_turns, 0))
        _check_least(timeout_s=(timeout_s, 0.1), rest_s=(rest_s, 0.0), wait_s=(wait_s, 0.0))
        _check_least(temperature=(temperature or 0.0, 0.0))
        if prompt not in get_args(Prompt):
            known = ", ".join(get_args(Prompt))
            raise OptionsError(f"prompt {prompt!r}", "unknown", f"use one of {known}")
        self._prompt = prompt
        if prompt != "ours" and (prosody or context_turns):
            raise OptionsError(
                f"prompt {prompt!r}",
                "has fixed contents",
                "leave prosody and context_turns out",
            )
        prosody = prosody or prompt == "refine"
        sampling = dict(_SAMPLING[prompt])
        if temperature is not None:
            sampling["temperature"] = temperature
        self._wait_s = wait_s
        circuit = Circuit(sys.maxsize if wait_s else failures, rest_s)
        self._chat = connect(base_url, api_key_env, allow_http, attempts, concurrency, circuit)
        self._model, self._max_tokens, self._turns = model, max_tokens, context_turns
        self.timeout_s, self._concurrency, self._prosody = timeout_s, concurrency, prosody
        best: Output = OUTPUTS[0] if prompt == "ours" else "text"
        self.form = Form(
            best if output == "auto" else output,
            # with log-probabilities the most probable label would be the vote, not the word said
            ALTERNATIVES[0] if logprobs and prompt == "ours" else None,
            output != "auto",
            sampling,
        )
        self._known = self.form.known
        """Whether the server is known to understand this form."""
        self._lock = threading.Lock()
        how = " and how they were said" if prosody else ""
        self.card = Card(
            model="zero-shot",
            version=model,
            needs=frozenset({"transcript", "audio"} if prosody else {"transcript"}),
            labels=LABELS,
            licence=licence,
            noncommercial=noncommercial,
            notes=(f"sends transcripts{how} to {self._chat.access.url}",),
            context_turns=context_turns,
            served=True,
        )

    def vote(self, batch: Sequence[Utterance]) -> list[Ballot | Abstention]:
        """Return one answer for each transcript, asked concurrently."""
        deadline = time.monotonic() + self.timeout_s
        if not batch:
            return []
        if self._known or len(batch) == 1:
            return self._all(batch, deadline)
        # The first one finds out which form the server understands.
        return [*self._all(batch[:1], deadline), *self._all(batch[1:], deadline)]

    def close(self) -> None:
        """Close the connections."""
        self._chat.close()

    def _all(self, batch: Sequence[Utterance], deadline: float) -> list[Ballot | Abstention]:
        def one(utterance: Utterance) -> Ballot | Abstention:
            return self._one(utterance, deadline)

        if len(batch) == 1:
            return [one(batch[0])]
        with ThreadPoolExecutor(min(self._concurrency, len(batch))) as pool:
            return list(pool.map(one, batch))

    def _one(self, utterance: Utterance, deadline: float) -> Ballot | Abstention:
        if not utterance.transcript.strip():
            return Abstention("the transcript is empty: no words were recognised in the segment")
        if self._prompt == "refine" and not utterance.choices:
            return Abstention("the refiner gets no label to refine")
        try:
            return self._answer(utterance, deadline)
        except ServerError as error:
            if self._wait_s:
                remedy = "start it, and run the command again"
                raise RunError(self.card.version, str(error), remedy) from error
            return Abstention(str(error))
        except RejectedError as error:
            return Abstention(f"the server rejects the request: {error}")

    def _answer(self, utterance: Utterance, deadline: float) -> Ballot | Abstention:
        """Ask the server; before its first answer, find out which form it understands."""
        try:
            form = self._found_form(deadline)
            reply = self._send(self.request(utterance, form), deadline)
        except NonsenseError as error:
            return Abstention(f"the server answers nonsense: {error}")
        judged = judge_refined if self._prompt == "refine" else judge
        return judged(reply, labels_of(utterance))

    def _found_form(self, deadline: float) -> Form:
        with self._lock:
            form, known = self.form, self._known
        if not known:
            form = find(lambda body: self._send({"model": self._model, **body}, deadline), form)
            with self._lock:
                self.form, self._known = form, True
        return form

    def _send(self, request: Mapping[str, Any], deadline: float) -> Reply:
        """Return the reply to a request. Raises NonsenseError, and what `Chat` raises."""
        if self._wait_s:
            return read_reply(self._chat.insist(request, self.timeout_s, self._wait_s))
        return read_reply(self._chat.ask(request, deadline))

    def request(self, utterance: Utterance, form: Form) -> dict[str, Any]:
        """Return the body of the request about an utterance."""
        return {
            "model": self._model,
            "messages": self._messages(utterance, form.output),
            "max_tokens": self._max_tokens,
            **form.fields(labels_of(utterance)),
        }

    def _messages(self, utterance: Utterance, output: Output) -> list[dict[str, str]]:
        if self._prompt == "published":
            return published_messages(utterance)
        refine, voice = self._prompt == "refine", ""
        if self._prosody:
            voice = describe(measure(utterance.samples, utterance.transcript), level=refine)
        if refine:
            return refine_messages(utterance, voice)
        return messages(utterance, output == "json_schema", self._turns, voice)


def connect(
    base_url: str,
    api_key_env: str | None = None,
    allow_http: bool = False,
    attempts: int = 3,
    concurrency: int = 8,
    circuit: Circuit | None = None,
) -> Chat:
    """Return a client of a server; without `circuit` it never stops to ask.

    Raises OptionsError: the address or the key is wrong.
    """
    url, name = checked_url(base_url, allow_http), api_key_env or DEFAULT_KEY_ENV
    access = Access(url, _key(api_key_env), name, attempts, concurrency)
    return Chat(access, circuit or Circuit(sys.maxsize, 0.0))


def _key(name: str | None, environment: Callable[[str], str | None] = os.environ.get) -> str | None:
    """Return the key in the environment; None if none is set.

    Raises:
        OptionsError: the named variable is not set, or its value is not a key.

    """
    key = environment(name or DEFAULT_KEY_ENV)
    if name and not key:
        raise OptionsError(
            f"api_key_env {name!r}", "this environment variable is not set", "set it to the key"
        )
    if key and not (key.isascii() and key.isprintable() and key == key.strip()):
        raise OptionsError(
            f"the key in {name or DEFAULT_KEY_ENV}",
            "it holds spaces around it, line ends or other characters no key has",
            "set it to the key alone",
        )
    return key or None


def _check_least(**given: tuple[float, float]) -> None:
    for name, (value, least) in given.items():
        if not value >= least:
            raise OptionsError(f"{name} {value!r}", f"is below {least:g}", "raise it")
