"""Language models in 8 and 4 bits: the same errors anywhere, the votes where bitsandbytes is."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import tiny_checkpoints
import torch

from abhinaya.models.base import Utterance
from abhinaya.models.errors import OptionsError
from abhinaya.models.inference import place
from abhinaya.models.published.llama import load_llm
from abhinaya.models.registry import load

CPU = {"device": "cpu", "dtype": "float32"}
TEXTS = ("I am so happy!", "no", "This is the worst thing that has ever happened to me, ever.")
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="the extra `quantize` is not installed"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """T2 of widths that the 4-bit kernels take: multiples of 32."""
    folder: Path = tmp_path_factory.mktemp("t2")
    tiny_checkpoints.save_llm(folder, hidden=128, intermediate_size=256)
    checkpoint, _ = tiny_checkpoints.save_llama_lora(folder, folder)
    return {"llm": str(folder), "checkpoint": str(checkpoint)}


def votes(voter, *texts: str) -> np.ndarray:
    nothing = np.zeros(0, np.float32)
    answers = voter.vote([Utterance(nothing, transcript=text) for text in texts])
    return np.array([answer.probabilities for answer in answers])


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_without_the_package_it_says_what_to_install(bits, files, monkeypatch) -> None:
    with pytest.raises(OptionsError, match="use 8bit or 4bit"):
        load_llm(files["llm"], place("cpu", "float32"), "2bit")  # type: ignore[arg-type]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        OptionsError, match=r"bitsandbytes is not installed.*'abhinaya\[quantize\]'"
    ):
        load("llama-lora", {**files, **CPU, "quantize": bits})


def test_texts_that_must_be_read_apart_are(files, monkeypatch) -> None:
    """As those of an 8-bit model, which looks for outliers over the whole batch."""
    voter = load("llama-lora", {**files, **CPU})
    together = votes(voter, *TEXTS)
    sizes: list[int] = []
    forward = voter._model.forward
    monkeypatch.setattr(
        voter._model, "forward", lambda ids, mask: (sizes.append(len(ids)), forward(ids, mask))[1]
    )
    voter._apart = True
    assert np.abs(votes(voter, *TEXTS) - together).max() < 1e-5
    assert sizes == [1, 1, 1]


@needs_bitsandbytes
@pytest.mark.parametrize(("bits", "near"), [("8bit", 0.03), ("4bit", 0.2)])
def test_votes_are_near_and_no_text_sees_another(bits, near, files) -> None:
    plain = load("llama-lora", {**files, **CPU})
    voter = load("llama-lora", {**files, **CPU, "quantize": bits})
    found = votes(voter, *TEXTS)
    assert 1e-6 < np.abs(found - votes(plain, *TEXTS)).max() < near
    assert np.abs(found - np.concatenate([votes(voter, text) for text in TEXTS])).max() < 1e-5
    assert voter.card.parameters == plain.card.parameters
    assert voter.card.memory_mb < plain.card.memory_mb / 2


@needs_bitsandbytes
def test_lora_is_not_merged_into_packed_weights(files) -> None:
    with pytest.raises(OptionsError, match="merged only into plain linear layers"):
        load("llama-lora", {**files, **CPU, "quantize": "4bit", "merge": True})


@needs_bitsandbytes
def test_salmonn_in_8_bits(tmp_path, speech) -> None:
    files = tiny_checkpoints.save_salmonn(tmp_path)
    voter = load("salmonn-13b", files.options("13b", quantize="8bit"))
    segments = [Utterance(speech(n, n)) for n in (9_999, 30_123)]
    together = np.array([a.probabilities for a in voter.vote(segments)])
    alone = np.array([voter.vote([s])[0].probabilities for s in segments])
    assert np.abs(together - alone).max() < 1e-5
    assert torch.int8 in {p.dtype for p in voter._model.llm.parameters()}
