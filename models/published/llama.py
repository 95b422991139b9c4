"""T2: a language model with LoRA reads a transcript; ABHINAYA's head scores it.

    ids [B, T] -> LLM [B, T, H] -> LayerNorm, attentive statistics over the words -> head [B, C]

Published with Llama-3.1-8B; any causal language model of transformers works. The language model's
output layer is not loaded.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
)

from abhinaya.models.base import Card, Utterance
from abhinaya.models.checkpoint import Tensors, check_finite, fill, matches, read
from abhinaya.models.errors import KeysError, OptionsError
from abhinaya.models.hugging_face import locate, require_complete, translated
from abhinaya.models.inference import Place, compile_if_asked, moved, place, warm_up, weigh
from abhinaya.models.labels import label_map, own_labels
from abhinaya.models.published.heads import LanguageHead
from abhinaya.models.published.lora import ALPHA, fill_lora, is_lora, merge_lora
from abhinaya.models.published.voting_batch import Answer, answers, padded, serve, unfit_text, valid

Quantize = Literal["8bit", "4bit"]

LORA_PREFIX: Final = "base_model.model.model."
"""Key prefix of a causal language model's layers inside a peft wrapper."""
LLAMA_PREFIX: Final = "llama."
"""Key prefix of a T2 checkpoint, in front of LORA_PREFIX."""
IGNORED: Final = (r".*\.rotary_emb\.inv_freq",)
"""A buffer that older versions of transformers saved for every layer."""
MAX_TOKENS: Final = 128
_LITERAL_END: Final = "</s>"
_SPECIAL_IDS: Final[Mapping[tuple[str, int], Mapping[str, int]]] = {
    ("llama", 32_000): {"<unk>": 0, "<s>": 1, "</s>": 2},
    ("llama", 128_256): {"<|begin_of_text|>": 128_000, "<|end_of_text|>": 128_001},
}
"""Ids of special tokens by a model's type and vocabulary: Llama 2, as Vicuna, and Llama 3."""


def load_llm(
    name: str, where: Place, quantize: Quantize | None = None, output: bool = False
) -> Any:
    """Load a causal language model, frozen, on its device; its output layer only with `output`.

    Raises:
        ModelError: the model is unavailable or incomplete, or cannot be quantised here.

    """
    if quantize not in (None, "8bit", "4bit"):
        raise OptionsError(f"quantize {quantize!r}", "unknown", "use 8bit or 4bit")
    if quantize is not None and importlib.util.find_spec("bitsandbytes") is None:
        raise OptionsError(
            f"quantize {quantize!r}",
            "the package bitsandbytes is not installed",
            "run pip install 'abhinaya[quantize]', or leave quantize out",
        )
    more: dict[str, Any] = {}
    quantization: Any = BitsAndBytesConfig
    with translated(name):
        if quantize is not None:
            config = quantization(
                load_in_8bit=quantize == "8bit",
                load_in_4bit=quantize == "4bit",
                bnb_4bit_compute_dtype=where.dtype,
            )
            more = {"quantization_config": config, "device_map": {"": where.device}}
        auto: Any = AutoModelForCausalLM if output else AutoModel
        llm, info = auto.from_pretrained(
            locate(name),
            trust_remote_code=False,
            dtype=where.dtype,
            attn_implementation=where.attention_of_transformers,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # require_complete refuses them by name
            **more,
        )
    require_complete(info, name)
    check_finite(dict(llm.named_parameters()), name)
    if quantize is None:
        nn.Module.to(llm, where.device)
    return llm.eval().requires_grad_(False)


def one_by_one(quantize: Quantize | None) -> bool:
    """Whether a quantised model must read its texts one by one.

    In 8 bits, columns with outliers are computed in half precision. They are chosen over the whole
    batch, so an answer would depend on the other texts.
    """
    return quantize == "8bit"


def load_tokenizer(name: str) -> Any:
    """Load a tokenizer; only Vicuna's needs the old treatment of spaces (`legacy`).

    Raises:
        ModelError: the tokenizer is unavailable, or of another model.

    """
    with translated(name):
        folder = locate(name)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, legacy=True)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    check_tokenizer(tokenizer, (config.model_type, getattr(config, "vocab_size", 0)), name)
    return tokenizer


def check_tokenizer(tokenizer: Any, model: tuple[str, int], subject: object) -> None:
    """Refuse a tokenizer that is not of its model: the weights would read other words.

    `model` is the model's type and the size of its vocabulary.

    Raises:
        KeysError: a special token has another id.

    """
    for token, known in _SPECIAL_IDS.get(model, {}).items():
        if (found := tokenizer.get_vocab().get(token)) != known:
            raise KeysError(
                subject,
                f"its tokenizer has {token} as {found}; the model was trained with {known}",
                "put the tokenizer files of this very model into its folder",
            )


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    """Return the token ids of a text; a special token's name in it stays ordinary text."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    return ids


def split_lora(tensors: Mapping[str, Tensor], prefix: str) -> tuple[Tensors, Tensors]:
    """Split a checkpoint into LoRA weights, without their prefix, and the rest."""
    whole = prefix + LORA_PREFIX
    lora = {k.removeprefix(whole): v for k, v in tensors.items() if is_lora(k)}
    rest = {k: v for k, v in tensors.items() if not is_lora(k) and not matches(k, IGNORED)}
    return lora, rest


def load_head(
    tensors: Mapping[str, Tensor], width: int, named: int, subject: object
) -> LanguageHead:
    """Return the head with these weights, for a language model of `width`; check its classes.

    Raises:
        KeysError: the weights are not of a head, or its width or number of classes differs.

    """
    shapes = {k: tuple(t.shape) for k, t in tensors.items()}
    hidden, classes = shapes.get("fc.weight", (1024,))[0], shapes.get("out.weight", (8,))[0]
    head = LanguageHead(width, hidden, classes)
    fill(head, tensors, subject, remedy=f"use a head trained on a language model of width {width}")
    if classes != named:
        raise KeysError(
            subject,
            f"it scores {classes} classes, and {named} are named",
            "name its classes in its order with the option labels",
        )
    return head.eval()


def transcript_ids(
    tokenizer: Any, transcript: str, literal_end: bool = True, max_tokens: int = MAX_TOKENS
) -> list[int]:
    """Return T2's token ids of a transcript: no BOS, no prompt, "</s>" at the end."""
    text = transcript.strip()
    if not literal_end:
        return plain_ids(tokenizer, text)[:max_tokens]
    if _LITERAL_END in tokenizer.all_special_tokens:
        end = tokenizer.convert_tokens_to_ids(_LITERAL_END)
        return [*plain_ids(tokenizer, text), end][:max_tokens]
    # One text, because the tokenizer may join a full stop with the first piece of "</s>".
    return plain_ids(tokenizer, text + _LITERAL_END)[:max_tokens]


class LlamaClassifier(nn.Module):
    """Language model with head."""

    def __init__(self, llm: nn.Module, head: LanguageHead) -> None:
        super().__init__()
        self.llm, self.head = llm, head

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Score ids [B, T], mask [B, T] True on words, padded at the end: [B, C]."""
        out = self.llm(input_ids=ids, attention_mask=mask.long(), use_cache=False)
        scores: Tensor = self.head(out.last_hidden_state, mask)
        return scores


class LlamaVoter:
    """T2 as a voter.

    Options: `llm`, a folder or a name on the Hub; `checkpoint`, the trained LoRA weights and head;
    `labels`, the checkpoint's outputs in its order, if they are not the eight of this package and
    the file does not name them; `literal_end`, whether "</s>" is added to each text as in the
    published training (for Llama-3, three ordinary tokens); `max_tokens`, limit of a transcript;
    `lora_alpha`, 32 as published; `merge`, add LoRA to the weights once (irreversible, faster);
    `quantize`, 8bit or 4bit by bitsandbytes; `attention` and `compile`; `licence` and
    `noncommercial`, as on the language model's page.
    """

    def __init__(
        self,
        llm: str,
        checkpoint: str,
        labels: Sequence[str] | str | None = None,
        literal_end: bool = True,
        max_tokens: int = MAX_TOKENS,
        lora_alpha: float = ALPHA,
        merge: bool = False,
        quantize: Quantize | None = None,
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "auto",
        compile: bool = False,
        licence: str = "the language model's own",
        noncommercial: bool = False,
    ) -> None:
        self._place = place(device, dtype, attention, compile)
        self._apart = one_by_one(quantize)
        trained = read(checkpoint)
        names = own_labels(labels, trained.extra.get("labels"), checkpoint)
        self._labels = label_map(names, checkpoint)
        self._tokenizer = load_tokenizer(llm)
        self._literal_end, self._max_tokens = literal_end, max_tokens
        lora, rest = split_lora(trained.tensors, LLAMA_PREFIX)
        body = load_llm(llm, self._place, quantize)
        head = load_head(rest, body.config.hidden_size, len(names), checkpoint)
        fill_lora(body, lora, checkpoint, lora_alpha)
        if merge:
            merge_lora(body)
        compile_if_asked(self._place, body)
        self._model = LlamaClassifier(body, head.to(self._place.device)).eval()
        size = weigh(self._model)
        self.card = Card(
            model="llama-lora",
            version=f"{Path(checkpoint).stem} on {llm}",
            needs=frozenset({"transcript"}),
            labels=self._labels.labels,
            attributes=bool(self._labels.attributes),
            licence=licence,
            noncommercial=noncommercial,
            notes=(f"reads the first {max_tokens} tokens of a transcript",),
            **asdict(size),
        )
        warm_up(self, self._place)

    def vote(self, batch: Sequence[Utterance]) -> list[Answer]:
        """Return one answer for each transcript."""
        return serve(batch, unfit_text, self._run, self._labels)

    def _run(self, batch: list[Utterance]) -> Tensor:
        rows = [torch.tensor(self.ids(utterance.transcript)) for utterance in batch]
        groups = [[row] for row in rows] if self._apart else [rows]
        return answers(torch.cat([self._read(group) for group in groups]), self._labels)

    def _read(self, rows: Sequence[Tensor]) -> Tensor:
        ids, lengths = padded(rows)
        mask = valid(lengths, ids.shape[1])
        scores: Tensor = self._model(moved(ids, self._place), moved(mask, self._place))
        return scores

    def ids(self, transcript: str) -> list[int]:
        """Return the language model's token ids of a transcript."""
        return transcript_ids(self._tokenizer, transcript, self._literal_end, self._max_tokens)
