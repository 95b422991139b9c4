"""T1: a language model on a server reads a transcript and names one of the labels.

Any server with an OpenAI-compatible chat API works: vLLM, SGLang, llama.cpp, Ollama, or
`transformers serve`; docs/serving-t1.md has commands. The first request finds out the fields that
the server supports: rejected fields are removed one by one until the server answers.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
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
from abhinaya.models.served.prompting import (
    PUBLISHED_SAMPLING,
    REFINE_SAMPLING,
    Output,
    labels_of,
    messages,
    published_messages,
    refine_messages,
    restriction,
)
from abhinaya.models.served.prosody import describe, measure
from abhinaya.models.served.replies import NonsenseError, judge, judge_refined, read_reply

DEFAULT_KEY_ENV: Final = "ABHINAYA_API_KEY"
_OUTPUTS: Final[tuple[Output, ...]] = get_args(Output)
Prompt = Literal["ours", "published", "refine"]
_SAMPLING: Final[Mapping[Prompt, Mapping[str, float]]] = {
    "ours": {"temperature": 0.0},
    "published": PUBLISHED_SAMPLING,
    "refine": REFINE_SAMPLING,
}
_ALTERNATIVES: Final = (20, 5, None)
"""Values of top_logprobs to request; servers allow 20, 5 or none."""
_OUTPUT_WORDS: Final = ("response_format", "schema", "structured", "guided", "grammar", "choice")


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """Optional features of a request."""

    output: Output
    alternatives: int | None
    """Number of alternative tokens with log-probabilities; None: no log-probabilities."""
    output_is_chosen: bool = False
    """Whether the profile fixes `output`, so that a rejection does not change it."""
    sampling: Mapping[str, float] = field(default_factory=lambda: {"temperature": 0})

    def fields(self, labels: Sequence[str] = LABELS) -> dict[str, object]:
        """Return the fields of a request that asks for one of `labels`."""
        fields = {**self.sampling, **restriction(self.output, labels)}
        if self.alternatives:
            fields |= {"logprobs": True, "top_logprobs": self.alternatives}
        return fields

    def simpler(self, rejection: str) -> RequestOptions | None:
        """Return a simpler request to try after this rejection; None if none is left."""
        if "top_k" in self.sampling:  # no field of the standard
            rest = {key: value for key, value in self.sampling.items() if key != "top_k"}
            return replace(self, sampling=rest)
        fewer = None
        if self.alternatives is not None:
            least = _ALTERNATIVES[_ALTERNATIVES.index(self.alternatives) + 1]
            fewer = replace(self, alternatives=least)
        looser = None
        if self.output != "text" and not self.output_is_chosen:
            looser = replace(self, output=_OUTPUTS[_OUTPUTS.index(self.output) + 1])
        words = rejection.lower()
        if "logprob" not in words and any(word in words for word in _OUTPUT_WORDS):
            return looser or fewer
        return fewer or looser


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
        output: Literal["auto", "json_schema", "choice", "guided_choice", "text"] = "auto",
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
        if output not in ("auto", *_OUTPUTS):
            raise OptionsError(f"output {output!r}", "unknown", f"use auto, {', '.join(_OUTPUTS)}")
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
        url = checked_url(base_url, allow_http)
        key_name = api_key_env or DEFAULT_KEY_ENV
        access = Access(url, _key(api_key_env), key_name, attempts, concurrency)
        self._wait_s = wait_s
        self._chat = Chat(access, Circuit(sys.maxsize if wait_s else failures, rest_s))
        self._model, self._max_tokens, self._turns = model, max_tokens, context_turns
        self._timeout_s, self._concurrency, self._prosody = timeout_s, concurrency, prosody
        best: Output = "json_schema" if prompt == "ours" else "text"
        self._request_options = RequestOptions(
            best if output == "auto" else output,
            # with log-probabilities the most probable label would be the vote, not the word said
            _ALTERNATIVES[0] if logprobs and prompt == "ours" else None,
            output != "auto",
            sampling,
        )
        self._known = False
        """Whether the server has answered a request with these options."""
        self._lock = threading.Lock()
        self.card = Card(
            model="zero-shot",
            version=model,
            needs=frozenset({"transcript", "audio"} if prosody else {"transcript"}),
            labels=LABELS,
            licence=licence,
            noncommercial=noncommercial,
            notes=(f"sends transcripts{' and how they were said' if prosody else ''} to {url}",),
            context_turns=context_turns,
            served=True,
        )

    def vote(self, batch: Sequence[Utterance]) -> list[Ballot | Abstention]:
        """Return one answer for each transcript, asked concurrently."""
        deadline = time.monotonic() + self._timeout_s
        if not batch:
            return []
        if self._known or len(batch) == 1:
            return self._all(batch, deadline)
        # The first request finds out the options that the server supports.
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
        """Ask the server; before its first answer, simplify a rejected request and retry."""
        with self._lock:
            asked, known = self._request_options, self._known
        while True:
            try:
                request = self.request(utterance, asked)
                if self._wait_s:
                    body = self._chat.insist(request, self._timeout_s, self._wait_s)
                else:
                    body = self._chat.ask(request, deadline)
                break
            except RejectedError as error:
                # After the first answer, a rejection concerns this text.
                simpler = None if known else asked.simpler(str(error))
                if simpler is None:
                    raise
                asked = simpler
        try:
            reply = read_reply(body)
        except NonsenseError as error:
            return Abstention(f"the server answers nonsense: {error}")
        with self._lock:
            if not self._known:
                self._request_options, self._known = asked, True
        judged = judge_refined if self._prompt == "refine" else judge
        return judged(reply, labels_of(utterance))

    def request(self, utterance: Utterance, asked: RequestOptions) -> dict[str, Any]:
        """Return the body of the request about an utterance."""
        return {
            "model": self._model,
            "messages": self._messages(utterance, asked.output),
            "max_tokens": self._max_tokens,
            **asked.fields(labels_of(utterance)),
        }

    def _messages(self, utterance: Utterance, output: Output) -> list[dict[str, str]]:
        if self._prompt == "published":
            return published_messages(utterance)
        refine, voice = self._prompt == "refine", ""
        if self._prosody:
            voice = describe(measure(utterance.samples, utterance.transcript), level=refine)
        if refine:
            return refine_messages(utterance, voice)
        return messages(utterance, output, self._turns, voice)


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
