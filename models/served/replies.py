"""Reads T1's vote from a reply: a label, and probabilities if the server returns them.

An unrestricted model may answer with synonyms, punctuation, a sentence, reasoning in tags, JSON in
a code fence, or a refusal. Only a label is read from a reply; a reply with no label or with several
is an abstention.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from abhinaya.models.base import Abstention, Ballot, ballot
from abhinaya.models.labels import LABELS

FIELD: Final = "emotion"
"""Field of a reply in JSON."""
NOT_SURE: Final = "NA"
"""A refiner's answer that keeps the predicted label."""
_SYNONYMS: Final[Mapping[str, tuple[str, ...]]] = {
    "angry": ("anger", "angrily", "furious", "fury", "rage", "annoyed", "annoyance", "irritated",
              "irritation", "frustrated", "frustration"),
    "contempt": ("contemptuous", "disdain", "disdainful", "scorn", "scornful"),
    "disgust": ("disgusted", "disgusting", "revulsion", "repulsed"),
    "fear": ("fearful", "afraid", "scared", "anxious", "anxiety", "terrified", "worried"),
    "happy": ("happiness", "joy", "joyful", "cheerful", "delighted", "excited", "excitement",
              "pleased", "glad"),
    "neutral": ("neutrality", "calm", "emotionless", "indifferent"),
    "sad": ("sadness", "sorrow", "sorrowful", "unhappy", "grief", "depressed", "disappointed"),
    "surprise": ("surprised", "surprising", "astonished", "astonishment", "amazed", "shocked"),
}  # fmt: skip
_MEANING: Final = {word: label for label in LABELS for word in (label, *_SYNONYMS[label])}
_WORD: Final = re.compile(r"\b(" + "|".join(sorted(_MEANING, key=len, reverse=True)) + r")\b", re.I)
_NEGATED: Final = re.compile(r"\b(not|no|never|neither|nor|isn'?t|without|than)\s+(\w+\s+)?$", re.I)
_CONCLUSION: Final = re.compile(r"\b(answer|emotion|label|conclusion)\b\W*(?:is\b\W*)?$", re.I)

_OPEN_REASONING: Final = re.compile(r"<(think|thinking|thought|reason|reasoning|reflection)>", re.I)
_CLOSED_REASONING: Final = re.compile(
    r".*</(think|thinking|thought|reason|reasoning|reflection)>", re.I | re.S
)
_REFUSAL: Final = re.compile(
    r"\b(i'?m sorry|i am sorry|i apologi[sz]e|sorry, but|as an ai|i can(?:no|'?)t"
    r"|i am (?:unable|not able)|i'?m (?:unable|not able)|i won'?t|i will not|i must decline"
    r"|cannot (?:determine|assist|help|comply|provide)|unable to (?:determine|assist|help))",
    re.I,
)
_JSON: Final = re.compile(r"\{[^{}]*\}", re.S)
_SHOWN: Final = 80

_LEAST_MASS: Final = 0.5
"""Minimum probability of all labels together; with less, the probabilities are not used."""


@dataclass(frozen=True, slots=True)
class Step:
    """One token of a reply and its alternatives."""

    token: str
    alternatives: tuple[tuple[str, float], ...]
    """(token, log-probability), including the chosen token."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A valid chat completion."""

    text: str
    finish: str = ""
    """Reason for the end of the reply; `length`: the limit of tokens was reached."""
    refusal: str = ""
    """Text of a refusal, from servers that mark refusals."""
    steps: tuple[Step, ...] = ()
    """Tokens of `text` with their alternatives, if the server returns log-probabilities."""


class NonsenseError(ValueError):
    """The server answered with something that is not a chat completion."""


def read_reply(body: bytes) -> Reply:
    """Read the body of a chat completion.

    Raises:
        NonsenseError: the body is not a chat completion.

    """
    try:
        choice = json.loads(body)["choices"][0]
        message = choice["message"]
        text = message.get("content")
        refusal, finish = message.get("refusal"), choice.get("finish_reason")
        steps = _steps(choice.get("logprobs"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise NonsenseError(f"no chat completion: {_shown(body.decode('utf-8', 'replace'))}") from (
            error
        )
    if text is not None and not isinstance(text, str):
        raise NonsenseError(f"its content is a {type(text).__name__}, not text")
    return Reply(text or "", str(finish or ""), str(refusal or ""), steps)


def judge(reply: Reply, labels: Sequence[str] = LABELS) -> Ballot | Abstention:
    """Return the vote of a reply; a label outside `labels` is an abstention."""
    if reply.refusal:
        return Abstention(f"the model refused: {_shown(reply.refusal)}")
    found = find_label(reply.text)
    if isinstance(found, Abstention):
        if reply.finish == "length":
            return Abstention(f"{found.reason} (it was cut; raise max_tokens)")
        return found
    label, at = found
    if label not in labels:
        return Abstention(f"the model's answer {label} is not one of {', '.join(labels)}")
    shares = label_shares(reply, at) if reply.steps else None
    return ballot(shares) if shares is not None else Ballot(label)


def judge_refined(reply: Reply, labels: Sequence[str]) -> Ballot | Abstention:
    """Return the label of a refiner's reply: one word; anything else is an abstention."""
    word = without_reasoning(reply.text)[0].strip(" \t\n.\"'`*").lower()
    if word in labels and not reply.refusal:
        return Ballot(word)
    return Abstention(NOT_SURE if word == NOT_SURE.lower() else f"no label: {_shown(reply.text)}")


def find_label(reply: str) -> tuple[str, int] | Abstention:
    """Return the label of a reply and the index of its first character, or an abstention."""
    reply = reply.replace("\u2019", "'")
    text, offset = without_reasoning(reply)
    if not text.strip():
        open_end = _OPEN_REASONING.search(reply)
        return Abstention(
            "the model reasoned and gave no answer" if open_end else "the model's reply is empty"
        )
    if (value := _field(text)) is not None:
        start, end = value
        inner = text[start:end]
        if (label := _MEANING.get(inner.strip().lower())) is None:
            return Abstention(f"the model's answer is not one of the eight: {_shown(inner)}")
        return label, offset + start + len(inner) - len(inner.lstrip())
    mentions = [m for m in _WORD.finditer(text) if not _NEGATED.search(text[: m.start()])]
    bare = re.sub(r"[\W_]+", " ", text).strip().lower()
    if bare not in _MEANING and _REFUSAL.search(text):
        return Abstention(f"the model refused: {_shown(text)}")
    # A conclusion ("The answer is sad") counts more than labels mentioned before it.
    concluded = [m for m in mentions if _CONCLUSION.search(text[: m.start()])]
    chosen = concluded[-1:] or mentions
    labels = {_MEANING[m[0].lower()] for m in chosen}
    if len(labels) != 1:
        named = f"several labels ({', '.join(sorted(labels))})" if labels else "no label"
        return Abstention(f"the model's reply names {named}: {_shown(text)}")
    return labels.pop(), offset + chosen[0].start()


def label_shares(reply: Reply, at: int) -> tuple[float, ...] | None:
    """Return the labels' probabilities [C] from the tokens of the answer, which begins at `at`.

    None if less than half of the probability falls on labels.
    """
    mass = label_mass(reply, at)
    total = math.fsum(mass.values())
    if not total >= _LEAST_MASS:
        return None
    return tuple(mass[label] / total for label in LABELS)


def label_mass(reply: Reply, at: int) -> dict[str, float]:
    """Return the model's probability of each label, in the tokens of the answer at `at`.

    An alternative counts for a label if it is the beginning of only that label. If the chosen token
    is the beginning of several labels ("s"), the next token decides between them.
    """
    mass, path = dict.fromkeys(LABELS, 0.0), ""
    place = _step_at(reply, at)
    if place is None:
        return mass
    index, skipped = place
    reached = 1.0
    for step in reply.steps[index:]:
        prefix, follow = step.token[:skipped].strip(' \t\n"'), None
        chosen = step.token[skipped:]
        for token, logprob in step.alternatives:
            word = path + _begun(token, prefix, first=not path)
            labels = _begins(word) if word != path else set()
            share = reached * math.exp(min(logprob, 0.0))
            if len(labels) == 1:
                mass[labels.pop()] += share
            elif labels and token == step.token:
                follow = share
        path += chosen.lower()
        skipped = 0
        if follow is None:
            break
        reached = follow
    return mass


def _begun(token: str, prefix: str, first: bool) -> str:
    """Return the letters that a token adds to the answer."""
    if not first:
        return token.lower()
    bare = token.lstrip(' \t\n"')
    return bare.removeprefix(prefix).lstrip(' \t\n"').lower() if prefix else bare.lower()


def _begins(word: str) -> set[str]:
    """Return the labels that a word, or the beginning of a word, can stand for."""
    whole = re.split(r"[^a-z]", word, maxsplit=1)[0]
    if not whole:
        return set()
    if whole != word:  # the word has ended
        return {_MEANING[whole]} if whole in _MEANING else set()
    # Names of labels first: "n" is neutral, although synonyms may begin with it too.
    exact = {label for label in LABELS if label.startswith(whole)}
    return exact or {label for known, label in _MEANING.items() if known.startswith(whole)}


def _step_at(reply: Reply, at: int) -> tuple[int, int] | None:
    """Return the index of the step with character `at` of the text, and the offset in it."""
    steps = reply.steps
    # The tokens may include more than the text: reasoning, white space, an end token.
    before = "".join(step.token for step in steps).rfind(reply.text)
    if before < 0:
        return None
    at, passed = at + before, 0
    for index, step in enumerate(steps):
        if passed <= at < passed + len(step.token):
            return index, at - passed
        passed += len(step.token)
    return None


def _steps(logprobs: Any) -> tuple[Step, ...]:
    if not isinstance(logprobs, dict) or not logprobs.get("content"):
        return ()
    return tuple(_step(step) for step in logprobs["content"])


def _step(step: Any) -> Step:
    found = {str(step["token"]): float(step["logprob"])}
    found |= {str(o["token"]): float(o["logprob"]) for o in step.get("top_logprobs") or ()}
    return Step(str(step["token"]), tuple(found.items()))


def without_reasoning(text: str) -> tuple[str, int]:
    """Return the text after the reasoning, and the index of its first character."""
    closed = _CLOSED_REASONING.match(text)  # some templates open the tag in the prompt
    start = closed.end() if closed else 0
    rest = text[start:]
    if opened := _OPEN_REASONING.search(rest):
        rest = rest[: opened.start()]
    return rest, start


def _field(text: str) -> tuple[int, int] | None:
    """Return start and end of the value of FIELD in a JSON object, without its quotes."""
    for found in _JSON.finditer(text):
        try:
            value = json.loads(found[0])
        except ValueError:
            continue
        word = value.get(FIELD) if isinstance(value, dict) else None
        if isinstance(word, str):
            start = text.find(word, text.find(FIELD, found.start()) + len(FIELD))
            return (start, start + len(word)) if start >= 0 else None
    return None


def _shown(text: str) -> str:
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= _SHOWN else flat[:_SHOWN] + "...")
