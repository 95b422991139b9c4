"""The form of a request: how replies are restricted to the labels, and log-probabilities.

A server may reject a field, or ignore it in silence. So `find` asks for one of two words that no
model answers to its question by itself: a reply with such a word proves the restriction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args

from abhinaya.models.labels import LABELS
from abhinaya.models.served.chat import RejectedError
from abhinaya.models.served.replies import FIELD, Reply, without_reasoning

Output = Literal["choice", "json_schema", "text"]
"""How the server restricts a reply to the labels, the shortest reply first.

    choice       the label alone: structured_outputs (vLLM), regex (SGLang), grammar (llama.cpp)
    json_schema  response_format, the standard: Ollama and most others
    text         no restriction; a label is searched in the reply
"""
OUTPUTS: Final[tuple[Output, ...]] = get_args(Output)
ALTERNATIVES: Final = (20, 5, None)
"""Values of top_logprobs to request; servers allow 20, 5 or none."""

PROBE: Final = ("walnut", "zebra")
"""Words of the probe, both unlike any answer to its question."""
_QUESTION: Final = ({"role": "user", "content": "Which animal barks? Answer with one word."},)
_OUTPUT_WORDS: Final = (
    "response_format", "schema", "structured", "grammar", "regex", "choice",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a request."""

    output: Output
    alternatives: int | None
    """Number of alternative tokens with log-probabilities; None: no log-probabilities."""
    fixed: bool = False
    """Whether the profile fixes `output`."""
    sampling: Mapping[str, float] = field(default_factory=lambda: {"temperature": 0})

    @property
    def known(self) -> bool:
        """Whether there is nothing to find out about the server."""
        plain = self.output == "text" or self.fixed
        return plain and self.alternatives is None and "top_k" not in self.sampling

    def fields(self, labels: Sequence[str] = LABELS) -> dict[str, object]:
        """Return the fields of a request that asks for one of `labels`."""
        fields = {**self.sampling, **restriction(self.output, labels)}
        if self.alternatives:
            fields |= {"logprobs": True, "top_logprobs": self.alternatives}
        return fields

    def looser(self) -> Form | None:
        """Return the form with the next restriction; None if none is left."""
        if self.fixed or self.output == OUTPUTS[-1]:
            return None
        return replace(self, output=OUTPUTS[OUTPUTS.index(self.output) + 1])

    def simpler(self, rejection: str) -> Form | None:
        """Return a simpler form to try after this rejection; None if none is left."""
        if "top_k" in self.sampling:  # not a field of the standard
            rest = {key: value for key, value in self.sampling.items() if key != "top_k"}
            return replace(self, sampling=rest)
        fewer = None
        if self.alternatives is not None:
            least = ALTERNATIVES[ALTERNATIVES.index(self.alternatives) + 1]
            fewer = replace(self, alternatives=least)
        words = rejection.lower()
        if "logprob" not in words and any(word in words for word in _OUTPUT_WORDS):
            return self.looser() or fewer
        return fewer or self.looser()


def restriction(output: Output, labels: Sequence[str]) -> dict[str, object]:
    """Return the fields of a request that restrict the reply to the labels."""
    if output == "choice":
        return {
            "structured_outputs": {"choice": list(labels)},
            "regex": f"({'|'.join(labels)})",
            "grammar": "root ::= " + " | ".join(f'"{label}"' for label in labels),
        }
    if output == "text":
        return {}
    schema = {
        "type": "object",
        "properties": {FIELD: {"type": "string", "enum": list(labels)}},
        "required": [FIELD],
        "additionalProperties": False,
    }
    return {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": FIELD, "strict": True, "schema": schema},
        }
    }


def probe(form: Form) -> dict[str, Any]:
    """Return a request that shows whether the server obeys the restriction of a form."""
    return {"messages": list(_QUESTION), "max_tokens": 32, **form.fields(PROBE)}


def obeys(reply: Reply, output: Output) -> bool:
    """Return whether the reply to a probe is restricted as asked."""
    text = without_reasoning(reply.text)[0].strip()
    if output == "json_schema":
        try:
            answer = json.loads(text)
        except ValueError:
            return False
        return isinstance(answer, dict) and answer.get(FIELD) in PROBE
    return text in PROBE


def find(ask: Callable[[dict[str, Any]], Reply], form: Form) -> Form:
    """Return the best form that the server understands, from `form` on.

    `ask` sends a request and returns the reply.

    Raises RejectedError: the server rejects every form.
    """
    if form.known:
        return form
    while True:
        try:
            reply = ask(probe(form))
        except RejectedError as error:
            simpler = form.simpler(str(error))
            if simpler is None:
                raise
            form = simpler
            continue
        looser = None if obeys(reply, form.output) else form.looser()
        if looser is None:
            return form
        form = looser
