"""What a chat server can: `abhinaya models check zero-shot --base-url URL`."""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from abhinaya.models.base import Abstention, Ballot, Utterance, Voter
from abhinaya.models.errors import OptionsError, RunError
from abhinaya.models.labels import LABELS
from abhinaya.models.served.chat import Chat, RejectedError, ServerError
from abhinaya.models.served.forms import OUTPUTS, Form, Output, find, obeys, probe
from abhinaya.models.served.replies import (
    NonsenseError,
    Reply,
    find_label,
    judge,
    label_mass,
    read_reply,
)
from abhinaya.models.served.zero_shot import ZeroShot, connect

REQUESTS: Final = 10
PAGE_S: Final = 5.0
"""Time for a page that says what the server is."""
LEAST_CONTEXT: Final = 1024
"""Tokens of a prompt with room for a long transcript."""
_IDENTITY: Final = (
    ("//api/version", "Ollama", "version"),
    ("//version", "vLLM", "version"),
    ("//server_info", "SGLang", "version"),
    ("//props", "llama.cpp", "build_info"),
)
_AT_ONCE: Final = {
    "vLLM": "--max-num-seqs",
    "SGLang": "--max-running-requests",
    "llama.cpp": "--parallel N, with N times the context (-c)",
    "Ollama": "the environment variable OLLAMA_NUM_PARALLEL",
}
_CACHE: Final = {
    "vLLM": "start it with --enable-prefix-caching --enable-prompt-tokens-details",
    "SGLang": "start it with --enable-cache-report",
}
_SENTENCES: Final = (
    "I have been waiting for this day for months, thank you so much",
    "why did nobody tell me that the office is closed today",
    "please put the papers on the table next to the window",
    "she has left, and I do not know what to do without her",
    "there is somebody at the door again and I am alone in the house",
    "oh I did not expect to see you here at all",
    "that smell, I cannot even look at it",
    "as if you had ever done anything for anybody but yourself",
)


@dataclass(frozen=True, slots=True)
class Page:
    """What a server says of itself."""

    server: str = ""
    """Name and version; empty if it does not say."""
    models: Mapping[str, int | None] = field(default_factory=dict)
    """By model: tokens of a prompt with its reply, if the server says so."""
    fault: str = ""
    """Why it does not list its models."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a server can."""

    page: Page
    model: str
    outputs: Mapping[Output, str]
    """By restriction: empty if the server obeys it, else what it does instead."""
    form: Form
    """The form that T1 will use."""
    alternatives: int
    """Most alternatives of a token that a reply had."""
    share: float | None
    """Median of the probability on labels; None without log-probabilities."""
    cached: float | None
    """Share of the prompt's tokens that came from the server's cache; None if it does not say."""
    votes: Mapping[str, int]
    reasons: Mapping[str, int]
    """Of replies without a label, and of failed requests."""
    alone_ms: tuple[float, ...]
    """Time of each request, one after the other."""
    at_once: int
    together_s: float
    """Time of as many requests, `at_once` at a time."""
    together_ms: float

    @property
    def gain(self) -> float:
        """Return how many times more requests a second the server answers at once."""
        return sum(self.alone_ms) / 1000 / self.together_s


def look(chat: Chat) -> Page:
    """Return what a server says of itself.

    Raises RunError: nothing answers there, or the key is refused.
    """
    fault, contexts = "", dict[str, int | None]()
    try:
        listed = json.loads(chat.look("/models", time.monotonic() + PAGE_S))["data"]
        contexts = {str(one["id"]): _context(one) for one in listed}
    except ServerError as error:
        fault = str(error)
        if "cannot be reached" in fault or "refuses" in fault:
            raise RunError("zero-shot", fault, "see docs/serving-t1.md") from error
    except (RejectedError, ValueError, LookupError, TypeError) as error:
        fault = f"its list of models is not as expected ({type(error).__name__})"
    return Page(_identity(chat), contexts, fault)


def _context(model: Mapping[str, Any]) -> int | None:
    meta = model.get("meta")
    found = model.get("max_model_len") or (meta.get("n_ctx") if isinstance(meta, dict) else None)
    return found if isinstance(found, int) else None


def _identity(chat: Chat) -> str:
    for path, name, key in _IDENTITY:
        try:
            page = json.loads(chat.look(path, time.monotonic() + PAGE_S))
        except (ServerError, RejectedError, ValueError):
            continue
        if isinstance(page, dict) and isinstance(version := page.get(key), str):
            return f"{name} {version}"
    return ""


def chosen(page: Page, model: str | None) -> str:
    """Return the model to ask: the named one, or the only one.

    Raises OptionsError: the server has several, or does not list them.
    """
    if model:
        return model
    if len(page.models) == 1:
        return next(iter(page.models))
    why = f"the server has {', '.join(page.models)}" if page.models else page.fault
    raise OptionsError("--model", why or "the server has no model", "name one: --model NAME")


def examine(
    options: Mapping[str, Any],
    requests: int = REQUESTS,
    load: Callable[[Mapping[str, Any]], Voter] = lambda options: ZeroShot(**options),
) -> Findings:
    """Return what a server can, as the voter `zero-shot` with these options uses it.

    `load` checks the options and returns the voter.

    Raises OptionsError: an option is wrong; RunError: the server gives no answer.
    """
    load({"model": "any", **options})
    given = {name: options[name] for name in ("api_key_env", "allow_http") if name in options}
    at_once = int(options.get("concurrency", 8))
    chat = connect(str(options["base_url"]), **given, attempts=1, concurrency=max(1, at_once))
    page = look(chat)
    model = chosen(page, options.get("model"))
    voter = load({**options, "model": model})
    assert isinstance(voter, ZeroShot)
    try:
        return _Examination(chat, page, model, voter).run(requests, at_once)
    except (ServerError, RejectedError, NonsenseError) as error:
        listed = f"; the server lists {', '.join(page.models)}" if page.models else ""
        raise RunError("zero-shot", f"{error}{listed}", "see docs/serving-t1.md") from error
    finally:
        chat.close()
        voter.close()


@dataclass(frozen=True, slots=True)
class _Answer:
    reply: Reply
    ms: float
    cached: float | None


@dataclass(slots=True)
class _Examination:
    chat: Chat
    page: Page
    model: str
    voter: ZeroShot
    reasons: Counter[str] = field(default_factory=Counter)

    def run(self, requests: int, at_once: int) -> Findings:
        outputs = {output: self._effect(output) for output in OUTPUTS[:-1]}
        form = find(lambda body: self._ask(body).reply, self.voter.form)
        bodies = [self.voter.request(self._utterance(i), form) for i in range(max(1, requests))]
        alone = [self._ask(body) for body in bodies]
        begun = time.perf_counter()
        with ThreadPoolExecutor(at_once) as pool:
            together = [answer for answer in pool.map(self._try, bodies) if answer]
        together_s = time.perf_counter() - begun
        found = [judge(answer.reply) for answer in alone]
        self.reasons.update(one.reason for one in found if isinstance(one, Abstention))
        steps = [step for answer in alone for step in answer.reply.steps]
        return Findings(
            page=self.page,
            model=self.model,
            outputs=outputs,
            form=form,
            alternatives=max((len(step.alternatives) for step in steps), default=0),
            share=_median(share for answer in alone for share in _shares(answer.reply)),
            cached=alone[-1].cached,
            votes=Counter(one.label for one in found if isinstance(one, Ballot)),
            reasons=self.reasons,
            alone_ms=tuple(answer.ms for answer in alone),
            at_once=at_once,
            together_s=together_s,
            together_ms=_median(answer.ms for answer in together) or 0.0,
        )

    def _utterance(self, i: int) -> Utterance:
        text = _SENTENCES[i % len(_SENTENCES)]
        return Utterance(np.zeros(0, np.float32), transcript=text, choices=LABELS)

    def _effect(self, output: Output) -> str:
        """Return what the server does with a restriction; empty if it obeys."""
        try:
            reply = self._ask(probe(Form(output, None))).reply
        except RejectedError as error:
            return f"rejected: {error}"
        return "" if obeys(reply, output) else "ignored"

    def _ask(self, body: Mapping[str, Any]) -> _Answer:
        begun = time.perf_counter()
        limit_s = self.voter.timeout_s
        content = self.chat.ask({"model": self.model, **body}, time.monotonic() + limit_s)
        ms = 1000 * (time.perf_counter() - begun)
        return _Answer(read_reply(content), ms, _cached(content))

    def _try(self, body: Mapping[str, Any]) -> _Answer | None:
        try:
            return self._ask(body)
        except (ServerError, RejectedError, NonsenseError) as error:
            self.reasons[str(error)] += 1
            return None


def _cached(content: bytes) -> float | None:
    try:
        usage = json.loads(content)["usage"]
        return float(usage["prompt_tokens_details"]["cached_tokens"] / usage["prompt_tokens"])
    except (LookupError, TypeError, ZeroDivisionError):
        return None


def _shares(reply: Reply) -> Iterator[float]:
    """Yield the probability on labels, if the reply has a label and log-probabilities."""
    found = find_label(reply.text)
    if reply.steps and not isinstance(found, Abstention):
        yield sum(label_mass(reply, found[1]).values())


def _median(values: Iterator[float]) -> float | None:
    known = list(values)
    return statistics.median(known) if known else None


def lines_of(found: Findings) -> Iterator[str]:
    """Yield the findings as lines for people."""
    page = found.page
    tokens = page.models.get(found.model)
    yield f"server: {page.server or 'it does not say which one it is'}"
    length = f", up to {tokens:,} tokens" if tokens else ""
    others = [name for name in page.models if name != found.model]
    more = f"; the server also has {', '.join(others)}" if others else ""
    yield f"model: {found.model}{length}{more or (page.fault and f'; {page.fault}')}"
    effects = [f"{output} {fault or 'works'}" for output, fault in found.outputs.items()]
    used = found.form.output
    yield f"replies: {'not restricted' if used == 'text' else used} ({'; '.join(effects)})"
    share = "" if found.share is None else f"; {found.share:.2f} of the probability is on labels"
    yield f"log-probabilities: {found.alternatives or 'none'}{share}"
    cache = "not visible" if found.cached is None else f"{found.cached:.0%} of the prompt"
    yield f"prefix cache: {cache}"
    times = found.alone_ms
    slowest = f"slowest {max(times):.0f} ms, of {len(times)} one after the other"
    yield f"latency: median {statistics.median(times):.0f} ms, {slowest}"
    rate = len(times) / found.together_s
    yield (
        f"at once: {found.at_once} requests, {rate:.1f} a second, {found.gain:.1f} times those of"
        f" one, median {found.together_ms:.0f} ms"
    )
    votes = ", ".join(f"{label} {n}" for label, n in Counter(found.votes).most_common())
    yield f"votes: {votes or 'none'}"
    for reason, count in found.reasons.items():
        yield f"  {count} without a vote: {reason}"


def remedies(found: Findings) -> Iterator[str]:
    """Yield what would make the server a better T1."""
    family = found.page.server.partition(" ")[0]
    if found.form.output == "text":
        yield "nothing holds a reply to the labels: use vLLM, SGLang, llama.cpp or Ollama"
    if not found.alternatives:
        yield "T1 votes without probabilities: use a server that gives log-probabilities"
    elif found.share is not None and found.share < 0.5:
        yield "the model would rather say something else: use an instruction-tuned model"
    if (tokens := found.page.models.get(found.model) or LEAST_CONTEXT) < LEAST_CONTEXT:
        yield f"{tokens} tokens are few for the instruction and a transcript: allow {LEAST_CONTEXT}"
    if found.cached is None and family in _CACHE:
        yield f"to see the prefix cache: {_CACHE[family]}"
    elif found.cached is not None and found.cached < 0.5 and len(found.alone_ms) > 1:
        yield "the instruction is computed for each request: switch prefix caching on"
    if found.gain < 1.5 and found.at_once > 1:
        by = f": {_AT_ONCE[family]}" if family in _AT_ONCE else ""
        yield f"requests at once gain little: allow the server more of them{by}"
