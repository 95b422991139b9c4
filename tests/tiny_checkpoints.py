"""Checkpoints of every voter in their published layouts, random and a few hundred kilobytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    AutoModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from abhinaya.models.labels import LABELS
from abhinaya.models.published.beats import Beats, BeatsConfig
from abhinaya.models.published.heads import LanguageHead
from abhinaya.models.published.lora import add_lora, lora_tensors
from abhinaya.models.published.qformer import QFormerConfig
from abhinaya.models.published.salmonn import SpeechAdapter
from abhinaya.models.published.wavlm import S1, S1Config, save_s1

SALMONN_LORA: Final = "llama_model.base_model.model.model."
LLAMA_LORA: Final = "llama.base_model.model.model."
BEATS_TABLE: Final = "encoder.layers.{}.self_attn.relative_attention_bias.weight"

WAVLM: Final[dict[str, Any]] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8] * 7,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embedding_groups": 4,
}
ROBERTA: Final[dict[str, Any]] = {
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 500,
}
LLAMA: Final[dict[str, Any]] = {
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
BEATS: Final = BeatsConfig(
    embed_dim=16,
    encoder_layers=2,
    encoder_embed_dim=24,
    encoder_ffn_embed_dim=32,
    encoder_attention_heads=2,
    conv_pos_groups=4,
)
BEATS_FLAGS: Final = {
    "relative_position_embedding": True,
    "gru_rel_pos": True,
    "layer_norm_first": False,
}


def shaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every weight a random value of lively size, so that no term is invisible in a test."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim == 1:
                is_gain = name.endswith("weight")
                weight.copy_(1.0 + 0.2 * noise if is_gain else 0.2 * noise)
            else:
                weight.copy_(noise / max(weight[0].numel(), 1) ** 0.5)
    return module.eval()


# --- language models --------------------------------------------------------------------


def save_tokenizer(
    folder: Path, bos: str = "<s>", eos: str = "</s>", words: Sequence[str] = (), **more: Any
) -> int:
    """Save a tokenizer of bytes, and of `words` whole; give the size of its vocabulary."""
    specials = ["<unk>", bos, eos]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*specials, *alphabet])}
    made = Tokenizer(models.BPE(vocab, [], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_tokens(list(words))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=bos, eos_token=eos, unk_token="<unk>", **more
    )
    fast.save_pretrained(folder)
    return len(vocab) + len(words)


def save_llm(
    folder: Path, bos: str = "<s>", eos: str = "</s>", hidden: int = 32, **more: Any
) -> Path:
    """Save a causal language model with a byte tokenizer, as the Hub has them."""
    size = save_tokenizer(folder, bos, eos)
    sizes = {"vocab_size": size, "hidden_size": hidden, "max_position_embeddings": 512}
    config = LlamaConfig(**(LLAMA | sizes | more))
    shaken(LlamaForCausalLM(config), 3).save_pretrained(folder)
    return folder


CHAT_TEMPLATE: Final = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def save_chat_llm(folder: Path) -> Path:
    """Save a random LLaMA that can chat and whose reply is always one of the labels.

    Each label is one token. Every other row of the output layer is zero, but that of the end token,
    which answers to a direction that only labels are embedded with: so one label, then the end.
    Which label it is comes from random layers that have read the whole prompt.
    """
    size = save_tokenizer(folder, words=LABELS, chat_template=CHAT_TEMPLATE)
    sizes = {"vocab_size": size, "hidden_size": 32, "max_position_embeddings": 4096}
    config = LlamaConfig(**LLAMA, **sizes, pad_token_id=0)
    model = shaken(LlamaForCausalLM(config), 5)
    first = size - len(LABELS)
    with torch.no_grad():
        head, embeddings = model.lm_head.weight, model.model.embed_tokens.weight
        head[:first] = 0
        head[:, 0] = 0
        head[2, 0] = 100.0
        for name, weight in model.model.layers.named_parameters():
            if "q_proj" in name or "k_proj" in name:
                weight *= 4  # attention sharp enough to find a short transcript in a long prompt
            if "o_proj" in name or "down_proj" in name:
                weight *= 4
                weight[0] = 0
        embeddings[:, 0] = -1.0
        embeddings[first:, 0] = 100.0
        model.model.norm.weight.fill_(1.0)
    model.save_pretrained(folder)
    return folder


# --- voters -----------------------------------------------------------------------------


def save_wavlm(folder: Path, outputs: tuple[str, ...] = LABELS) -> Path:
    """Save an S1 checkpoint of this project's layout."""
    folder.mkdir(exist_ok=True)
    save_s1(shaken(S1(S1Config(WAVLM, hidden=16, labels=outputs))), folder)
    return folder


def save_llama_lora(
    llm: Path, folder: Path, targets: Sequence[str] | None = None
) -> tuple[Path, dict[str, Tensor]]:
    """Write what the published T2 training writes for this language model; and its tensors."""
    body = AutoModel.from_pretrained(llm)
    add_lora(body, rank=4, targets=targets)
    shaken(body, 7)
    head = shaken(LanguageHead(body.config.hidden_size, 16), 8)
    tensors = {LLAMA_LORA + k: v for k, v in lora_tensors(body).items()} | head.state_dict()
    torch.save(tensors, folder / "llama8b.pth")
    return folder / "llama8b.pth", tensors


@dataclass
class SalmonnFiles:
    """A folder as a user has it: whisper, BEATs, Vicunas, SALMONNs and ABHINAYA's weights."""

    folder: Path
    beats: dict[str, Tensor]
    adapters: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """By size, `13b` or `7b`: what is in the published file."""

    def options(self, size: str, **more: Any) -> dict[str, Any]:
        """Give the options of the voter of this size."""
        return {
            "whisper": str(self.folder / "whisper"),
            "beats": str(self.folder / "beats.pt"),
            "llm": str(self.folder / f"vicuna-{size}"),
            "checkpoint": str(self.folder / f"abhinaya-{size}.pth"),
            "device": "cpu",
            "dtype": "float32",
            **more,
        }


def save_salmonn(folder: Path) -> SalmonnFiles:
    """Save everything that S2 and ST1 are loaded from."""
    config = WhisperConfig(
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        vocab_size=60,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    shaken(WhisperForConditionalGeneration(config)).save_pretrained(folder / "whisper")

    beats = shaken(Beats(BEATS), 1).state_dict()
    beats |= {
        BEATS_TABLE.format(1): beats[BEATS_TABLE.format(0)],
        "predictor.weight": torch.ones(5, 24),
        "predictor.bias": torch.ones(5),
    }
    torch.save({"cfg": asdict(BEATS) | BEATS_FLAGS, "model": beats}, folder / "beats.pt")

    made = SalmonnFiles(folder, beats)
    for size, hidden in (("13b", 40), ("7b", 32)):
        made.adapters[size] = _save_salmonn_size(made, size, hidden)
    return made


def _save_salmonn_size(files: SalmonnFiles, size: str, hidden: int) -> dict[str, Tensor]:
    folder = files.folder
    llm = save_llm(folder / f"vicuna-{size}", hidden=hidden)
    qformer = QFormerConfig(encoder_width=40, hidden_size=24, intermediate_size=32)
    adapter = dict(shaken(SpeechAdapter(16, 24, qformer, hidden), 2).state_dict())
    adapter["speech_Qformer.bert.embeddings.position_ids"] = torch.arange(512)[None]
    body = AutoModel.from_pretrained(llm)
    add_lora(body, rank=8)
    shaken(body, 3)
    adapter |= {SALMONN_LORA + k: v for k, v in lora_tensors(body).items()}
    # The published save rule also keeps buffers and aliases; see the reference, 2.6.
    extra = {f"beats.{BEATS_TABLE.format(1)}": files.beats[BEATS_TABLE.format(0)]}
    extra |= {
        f"{SALMONN_LORA}layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in (0, 1)
    }
    torch.save({"model": adapter | extra, "epoch": 3}, folder / f"salmonn-{size}.pth")
    head = shaken(LanguageHead(hidden, 16), 4).state_dict()
    torch.save(head, folder / f"head-{size}.pth")
    whole = {f"salmonn_model.{k}": v for k, v in (adapter | extra).items()}
    torch.save(whole | head, folder / f"abhinaya-{size}.pth")
    return adapter
