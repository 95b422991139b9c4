"""SALMONN that names the emotion by its own output layer: known answers on tiny checkpoints."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from tiny_checkpoints import SalmonnFiles, save_salmonn
from transformers import AutoTokenizer, LlamaForCausalLM

from abhinaya.models.base import Utterance
from abhinaya.models.errors import OptionsError
from abhinaya.models.labels import LABELS
from abhinaya.models.published.llama import LORA_PREFIX
from abhinaya.models.published.lora import fill_lora
from abhinaya.models.registry import load


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> SalmonnFiles:
    return save_salmonn(tmp_path_factory.mktemp("salmonn"))


def voter(files, **more):
    adapter = str(files.folder / "salmonn-13b.pth")
    options = files.options("13b", adapter=adapter, checkpoint=None, zero_shot=True)
    return load("salmonn-13b", options | more)


def test_the_likelihood_is_that_of_the_label_and_the_end_token(files, speech) -> None:
    t = voter(files)
    wave = speech(51_234, 1)
    (tokens,) = t._model.speech_tokens(t.encoders.encode([wave]))
    found = t.likelihoods(tokens)
    causal = LlamaForCausalLM.from_pretrained(files.folder / "vicuna-13b")
    prefix = f"llama_model.{LORA_PREFIX}"
    adapter = files.adapters["13b"]
    lora = {k.removeprefix(prefix): v for k, v in adapter.items() if "lora_" in k}
    fill_lora(causal.model, lora, "test")
    causal.eval()
    tokenizer = AutoTokenizer.from_pretrained(files.folder / "vicuna-13b")
    prompt, embed = t._words[0], causal.get_input_embeddings()
    for index, label in enumerate(LABELS):
        both = []
        for word in (label, label.capitalize()):
            text = torch.tensor([*tokenizer(word, add_special_tokens=False).input_ids, 2])
            before, after = (embed(torch.tensor(ids)) for ids in (prompt.before, prompt.after))
            whole = torch.cat([before, tokens, after, embed(text)])
            with torch.no_grad():
                logits = causal(inputs_embeds=whole[None]).logits[
                    0, len(whole) - len(text) - 1 : -1
                ]
            both.append(-F.cross_entropy(logits, text, reduction="sum"))
        expected = torch.stack(both).logsumexp(0)
        torch.testing.assert_close(found[index], expected, atol=1e-4, rtol=0)
    ballot, again = t.vote([Utterance(wave), Utterance(speech(9_000, 2))])
    assert ballot.label == LABELS[int(found.argmax())]
    assert np.allclose(ballot.probabilities, found.softmax(-1), atol=1e-6)
    assert ballot.probabilities != again.probabilities, "it hears"


def test_an_output_layer_that_knows_nothing_prefers_the_shortest_word(
    files, speech, tmp_path
) -> None:
    """Every token has the probability 1 / V: a label of n letters has V to the power of -n - 1."""
    shutil.copytree(files.folder / "vicuna-13b", tmp_path / "llm")
    causal = LlamaForCausalLM.from_pretrained(tmp_path / "llm")
    torch.nn.init.zeros_(causal.lm_head.weight)
    causal.save_pretrained(tmp_path / "llm")
    t = voter(files, llm=str(tmp_path / "llm"))
    assert t.card.parameters > 10_000
    (ballot,) = t.vote([Utterance(speech(20_000, 3))])
    assert ballot.label == "sad"
    expected = np.array([float(causal.config.vocab_size) ** -len(label) for label in LABELS])
    assert np.allclose(ballot.probabilities, expected / expected.sum(), rtol=1e-3)


@pytest.mark.parametrize(
    ("more", "said"), [({}, "is missing"), ({"zero_shot": True, "checkpoint": "x"}, "has no place")]
)
def test_a_checkpoint_or_zero_shot(files, more, said) -> None:
    options = files.options("7b")
    del options["checkpoint"]
    with pytest.raises(OptionsError, match=said):
        load("salmonn-7b", options | more)
