"""Chat servers as their documentation or a real run has them, played strictly.

A contract is a file in `tests/models/served/contracts/`: an answer, the refusals, and rules.

    knows         fields by which the server restricts replies; it ignores the others
    accepts       all fields that it takes; null: any, and what it does not know it ignores
    alternatives  most alternatives with log-probabilities; null: it gives none
    context       tokens of a prompt; null: no limit
    refusals      what it answers to a `field` outside `accepts`, more `alternatives`, another
                  `model` or a prompt over its `context`; without it, it goes on in silence
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from places import ROOT
from scripted_server import Say, Scripted, is_probe, scripted

from abhinaya.models.served.forms import PROBE

FOLDER = ROOT / "tests" / "models" / "served" / "contracts"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))
SURE = 0.7
"""Probability of the label; the rest is for `fear`."""


def contract(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return found


def answer(of: dict[str, Any], request: dict[str, Any]) -> Say:
    """Return what the server of a contract answers."""
    unknown = request.keys() - (of["accepts"] or request.keys())
    text = " ".join(message["content"] for message in request["messages"])
    most = of["alternatives"] or math.inf
    faults = {
        "field": bool(unknown),
        "alternatives": request.get("top_logprobs", 0) > most,
        "model": request["model"] != of["model"],
        "context": len(text) / 4 > (of["context"] or math.inf),
    }
    for fault, found in faults.items():
        if found and fault in of["refusals"]:
            refusal = of["refusals"][fault]
            body = json.dumps(refusal["body"]).replace("FIELDS", ", ".join(sorted(unknown)))
            return Say(body, refusal["status"])
    reply = copy.deepcopy(of["reply"])
    choice = reply["choices"][0]
    tokens = _tokens(of["knows"], request)
    choice["message"]["content"] = "".join(tokens)
    choice.pop("logprobs", None)
    if request.get("logprobs") and of["alternatives"]:
        template = of["reply"]["choices"][0]["logprobs"]["content"][0]
        shown = min(request["top_logprobs"], most)
        steps = [_step(template, token, shown) for token in tokens]
        choice["logprobs"] = {"content": steps}
    return Say(reply)


def _tokens(knows: list[str], request: dict[str, Any]) -> list[str]:
    """Return the reply: of a model that barks at the probe, and else thinks that all are sad."""
    if "response_format" in knows and "response_format" in request:
        return ['{"', "emotion", '":', ' "', PROBE[1] if is_probe(request) else "sad", '"}']
    if not is_probe(request):
        return ["sad"]
    held = {"structured_outputs", "regex", "grammar"} & set(knows) & request.keys()
    return [PROBE[0] if held else "Dog", "" if held else "."]


def _step(template: dict[str, Any], token: str, alternatives: int) -> dict[str, Any]:
    given = [(token, math.log(SURE)), ("fear", math.log(1 - SURE)), ("Q", -30.0)]
    shown = [
        template["top_logprobs"][0] | {"token": text, "logprob": share}
        for text, share in given[:alternatives]
    ]
    return template | {"token": token, "logprob": given[0][1], "top_logprobs": shown}


@contextmanager
def playing(name: str) -> Iterator[Scripted]:
    """Play a contract."""
    of = contract(name)
    pages = {path: Say(body) if body else Say("", 500) for path, body in of["get"].items()}
    with scripted(lambda _, request: answer(of, request), probes=True, pages=pages) as server:
        yield server
