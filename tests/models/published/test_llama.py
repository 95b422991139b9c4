"""T2 end to end on a tiny random checkpoint in the published layout."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import LLAMA_LORA, save_llama_lora
from transformers import AutoModel, GPT2Config, GPT2LMHeadModel

from abhinaya.models.base import Abstention, Ballot, Utterance
from abhinaya.models.errors import KeysError
from abhinaya.models.inference import place
from abhinaya.models.published.heads import LanguageHead
from abhinaya.models.published.llama import LlamaVoter, check_tokenizer, load_llm
from abhinaya.models.registry import load

CPU = {"device": "cpu", "dtype": "float32"}


def said(*transcripts: str) -> list[Utterance]:
    return [Utterance(np.zeros(0, np.float32), transcript=text) for text in transcripts]


@pytest.fixture(scope="module")
def files(tiny_llm, tmp_path_factory) -> SimpleNamespace:
    llm = tiny_llm()
    folder = tmp_path_factory.mktemp("t2")
    checkpoint, tensors = save_llama_lora(llm, folder)
    return SimpleNamespace(llm=str(llm), checkpoint=str(checkpoint), tensors=tensors, folder=folder)


@pytest.fixture(scope="module")
def voter(files) -> LlamaVoter:
    return load("llama-lora", {"llm": files.llm, "checkpoint": files.checkpoint, **CPU})


TEXTS = ("I am so happy!", "no", "This is the worst thing that has ever happened to me, ever.")


def test_the_scores_are_those_of_the_modules_put_together_by_hand(voter, files, shaken) -> None:
    """LoRA by the formula W + alpha / rank B A, in a model without peft."""
    body = AutoModel.from_pretrained(files.llm).eval()
    for key in [k for k in files.tensors if k.endswith("lora_A.default.weight")]:
        name = key.removeprefix(LLAMA_LORA).removesuffix(".lora_A.default.weight")
        up = files.tensors[key.replace("lora_A", "lora_B")]
        body.get_parameter(f"{name}.weight").data += 32 / 4 * up @ files.tensors[key]
    head = LanguageHead(32, 16).eval()
    head.load_state_dict({k: v for k, v in files.tensors.items() if not k.startswith(LLAMA_LORA)})
    with torch.no_grad():
        ids = torch.tensor([voter.ids(TEXTS[0])])
        expected = head(body(input_ids=ids).last_hidden_state).softmax(-1)[0].numpy()
    answer = voter.vote(said(TEXTS[0]))[0]
    assert np.abs(np.array(answer.probabilities) - expected).max() < 1e-5


def test_any_causal_language_model(tmp_path, tiny_llm, shaken) -> None:
    """GPT-2 has other module names; targets and ranks come from the checkpoint."""
    llm = tiny_llm()
    config = GPT2Config(vocab_size=259, n_embd=24, n_layer=2, n_head=2, n_positions=256)
    shaken(GPT2LMHeadModel(config), 5).save_pretrained(llm)
    checkpoint, _ = save_llama_lora(llm, tmp_path, targets=["c_attn"])
    voter = LlamaVoter(llm=str(llm), checkpoint=str(checkpoint), **CPU)
    answers = voter.vote(said(*TEXTS))
    for text, answer in zip(TEXTS, answers, strict=True):
        alone = voter.vote(said(text))[0]
        assert np.allclose(answer.probabilities, alone.probabilities, atol=1e-4)


def test_the_end_is_a_token_where_the_tokenizer_has_one(voter) -> None:
    assert voter.ids(" no ") == [*voter.ids("no")[:-1], 2]
    assert voter.ids("no</s>no").count(2) == 1, "a transcript cannot say that the text ended"


def test_the_end_is_spelled_out_where_it_is_no_token(tiny_llm, tmp_path) -> None:
    llm = tiny_llm(eos="<|end_of_text|>", bos="<|begin_of_text|>")
    checkpoint, _ = save_llama_lora(llm, tmp_path)
    voter = LlamaVoter(llm=str(llm), checkpoint=str(checkpoint), **CPU)
    assert len(voter.ids("no")) == len("no</s>")
    bare = LlamaVoter(llm=str(llm), checkpoint=str(checkpoint), literal_end=False, **CPU)
    assert bare.ids("no") == voter.ids("no")[:2]
    assert 2 not in voter.ids("no<|end_of_text|>")


def test_an_empty_transcript_abstains_and_long_ones_are_cut_as_published(voter) -> None:
    assert len(voter.ids("word " * 200)) == 128
    assert isinstance(voter.vote(said("word " * 200))[0], Ballot)
    answers = voter.vote(said(TEXTS[0], "  ", TEXTS[1]))
    assert isinstance(answers[1], Abstention)
    assert "empty" in answers[1].reason
    assert answers[2] == voter.vote(said(TEXTS[0], TEXTS[1]))[1]
    assert voter.vote([]) == []


def changed(files, tmp_path, change) -> str:
    tensors = {k: v for k, v in (files.tensors | change).items() if v is not None}
    torch.save(tensors, tmp_path / "changed.pth")
    return str(tmp_path / "changed.pth")


A = LLAMA_LORA + "layers.1.self_attn.q_proj.lora_A.default.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({A: None}, r"1 missing \(layers\.1\.self_attn\.q_proj\.lora_A"),
        ({A.replace("layers.1", "layers.2"): torch.ones(4, 32)}, "1 too many"),
        ({A: torch.ones(4, 48)}, "1 of another shape"),
        ({A: torch.ones(5, 32)}, r"ranks differ: \[4, 5\]"),
        ({A: torch.full((4, 32), float("nan"))}, "NaN"),
        ({"fc.weight": None}, "missing: fc.weight"),
        ({"llama.lm_head.weight": torch.ones(2)}, r"not of this model: llama\.lm_head\.weight"),
        ({"out.weight": torch.ones(4, 16), "out.bias": torch.ones(4)}, "scores 4 classes, and 8"),
    ],
)
def test_checkpoints_that_do_not_fit(files, tmp_path, change, message) -> None:
    with pytest.raises(KeysError, match=message):
        LlamaVoter(llm=files.llm, checkpoint=changed(files, tmp_path, change), **CPU)


def test_old_rotary_buffers_are_tolerated(files, tmp_path, voter) -> None:
    buffer = {LLAMA_LORA + "layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    other = LlamaVoter(llm=files.llm, checkpoint=changed(files, tmp_path, buffer), **CPU)
    assert other.vote(said(TEXTS[0])) == voter.vote(said(TEXTS[0]))


def test_another_language_model_or_one_with_weights_missing(files, tiny_llm) -> None:
    with pytest.raises(KeysError, match="width 64"):
        LlamaVoter(llm=str(tiny_llm(hidden=64)), checkpoint=files.checkpoint, **CPU)
    folder = tiny_llm()
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(KeysError, match=r"would be random: .*up_proj"):
        load_llm(str(folder), place("cpu", "float32"))


@pytest.mark.parametrize(
    ("vocabulary", "ids", "message"),
    [
        (32_000, {"<unk>": 0, "<s>": 1, "</s>": 2}, ""),
        (32_000, {"<unk>": 0, "<s>": 2, "</s>": 1}, "has <s> as 2; the model was trained with 1"),
        (128_256, {"<|begin_of_text|>": 128_000, "<|end_of_text|>": 128_001}, ""),
        (128_256, {"<unk>": 0, "<s>": 1, "</s>": 2}, "has <|begin_of_text|> as None; the"),
        (32_064, {"<s>": 7}, ""),
    ],
)  # fmt: skip
def test_a_tokenizer_of_another_model_is_refused(vocabulary, ids, message) -> None:
    """The ids of Llama 2, which Vicuna has, and of Llama 3 are known; of others nothing is said."""
    tokenizer = SimpleNamespace(get_vocab=lambda: ids)
    with pytest.raises(KeysError) if message else nullcontext() as caught:
        check_tokenizer(tokenizer, ("llama", vocabulary), "x")
    assert message in str(caught and caught.value)
