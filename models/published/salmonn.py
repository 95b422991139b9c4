"""SALMONN (Tang et al., 2024) as a classifier of audio and, for ST1, its transcript.

    Whisper [B, 1500, d] -> ln_speech ┐
    BEATs   [B, T, D]    -> ln_audio  ┴ concat [B, 1500, d + D] -> windows -> Q-Former
      -> speech_llama_proj [B, 88, H] -> the prompt around it -> LLM with LoRA -> head [B, C]

The language model's output layer is not built: the last hidden states go to the head. H is the
language model's width. Whisper pads to 30 s, so there are always 88 speech tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from abhinaya.models.published.audio_encoders import AudioFeatures
from abhinaya.models.published.qformer import QFormer, QFormerConfig, windows
from abhinaya.models.published.voting_batch import padded, valid

PoolScope = Literal["nonpad", "all", "speech"]
Layout = Literal["end", "segments"]


class SpeechAdapter(nn.Module):
    """The trained layers between the two encoders and the language model; published names."""

    def __init__(
        self, speech_width: int, audio_width: int, qformer: QFormerConfig, llm: int
    ) -> None:
        super().__init__()
        self.ln_speech = nn.LayerNorm(speech_width)
        self.ln_audio = nn.LayerNorm(audio_width)
        self.speech_query_tokens = nn.Parameter(
            0.02 * torch.randn(1, qformer.num_query_tokens, qformer.hidden_size)
        )
        self.speech_Qformer = QFormer(qformer)
        self.speech_llama_proj = nn.Linear(qformer.hidden_size, llm)

    def fuse(self, speech: Tensor, audio: Tensor, counts: Tensor | None = None) -> Tensor:
        """Join [B, 1500, d] and [B, T, D] to [B, 1500, d + D]; BEATs' part is padded with zeros.

        `counts` [B] is the number of BEATs tokens of each item; later tokens are set to zero.
        Without `counts`, as published, BEATs' tokens of the padding are used too.
        """
        audio = self.ln_audio(audio)
        if counts is not None:
            audio = audio.masked_fill(~valid(counts, audio.shape[1]).unsqueeze(-1), 0.0)
        audio = F.pad(audio, (0, 0, 0, speech.shape[1] - audio.shape[1]))
        return torch.cat([self.ln_speech(speech), audio], dim=-1)

    def query(self, fused: Tensor) -> Tensor:
        """Return the Q-Former's output for each window: [B, 1500, d + D] -> [B, 88, Q]."""
        read: Tensor = self.speech_Qformer(self.speech_query_tokens, windows(fused))
        return read.reshape(len(fused), -1, read.shape[-1])

    def forward(self, speech: Tensor, audio: Tensor, counts: Tensor | None = None) -> Tensor:
        """Return the speech tokens: [B, 1500, d] and [B, T, D] -> [B, 88, H]."""
        tokens: Tensor = self.speech_llama_proj(self.query(self.fuse(speech, audio, counts)))
        return tokens


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids around the speech of one item."""

    before: tuple[int, ...]
    """Ids before the speech; the first is BOS."""
    after: tuple[int, ...]
    text: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """Input of the language model."""

    embeds: Tensor
    """[B, T, H]"""
    mask: Tensor
    """[B, T] False on padding."""
    speech: Tensor
    """[B, T] True on speech tokens."""


def assemble(
    embed: nn.Module,
    prompts: Sequence[Prompt],
    speech: Sequence[Tensor],
    layout: Layout = "end",
    pad: Tensor | None = None,
) -> Reading:
    """Put prompts around speech tokens ([S, H] for each item): before | speech | after | text.

    Layout "end" pads only at the end, so an item does not depend on its batch. The published layout
    "segments" pads `after` and `text` separately, and the padding between them shifts later
    positions. `pad` [H] is the vector of padding, by default zeros.
    """
    device = speech[0].device

    def words(ids: Sequence[tuple[int, ...]]) -> list[Tensor]:
        return [embed(torch.tensor(row, device=device, dtype=torch.long)) for row in ids]

    parts = [
        words([p.before for p in prompts]),
        list(speech),
        words([p.after for p in prompts]),
        words([p.text for p in prompts]),
    ]
    # 1 on words, 2 on speech; padding will be 0.
    kinds = [
        [torch.full((len(row),), 2 if i == 1 else 1, device=device) for row in part]
        for i, part in enumerate(parts)
    ]
    if layout == "end":
        parts = [[torch.cat(row) for row in zip(*parts, strict=True)]]
        kinds = [[torch.cat(row) for row in zip(*kinds, strict=True)]]
    embeds = torch.cat([padded(part)[0] for part in parts], dim=1)
    kind = torch.cat([padded(part)[0] for part in kinds], dim=1)
    if pad is not None:
        embeds = torch.where((kind == 0).unsqueeze(-1), pad, embeds)
    return Reading(embeds, kind > 0, kind == 2)


class Salmonn(nn.Module):
    """Adapter, language model and head, without the encoders, which several models share."""

    def __init__(self, adapter: SpeechAdapter, llm: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.adapter, self.llm, self.head = adapter, llm, head

    def speech_tokens(self, features: Sequence[AudioFeatures]) -> list[Tensor]:
        """Return each item's speech tokens [88, H], also those of the padding to 30 s."""
        weight = self.adapter.speech_llama_proj.weight
        audio, counts = padded([f.audio for f in features])
        speech = torch.stack([f.speech for f in features])
        tokens = self.adapter(
            speech.to(weight.dtype), audio.to(weight.dtype), counts.to(weight.device)
        )
        return list(tokens)

    def embedding(self) -> nn.Module:
        """Return the table that turns token ids into vectors."""
        llm: Any = self.llm
        table: nn.Module = llm.get_input_embeddings()
        return table

    def read(self, sequence: Reading) -> Tensor:
        """Return the language model's last hidden states [B, T, H], after its final norm.

        Positions include the padding, as published; padding at the end has no effect.
        """
        embeds = sequence.embeds.to(next(self.embedding().parameters()).dtype)
        out: Tensor = self.llm(
            inputs_embeds=embeds,
            attention_mask=sequence.mask.long(),
            position_ids=torch.arange(embeds.shape[1], device=embeds.device)[None],
            use_cache=False,
        ).last_hidden_state
        return out

    def classify(self, hidden: Tensor, sequence: Reading, scope: PoolScope = "nonpad") -> Tensor:
        """Score [B, T, H], pooled over `scope`: [B, C]. "all" includes padding, as published."""
        masks = {"nonpad": sequence.mask, "all": None, "speech": sequence.speech}
        scores: Tensor = self.head(hidden, masks[scope])
        return scores

    def forward(
        self,
        features: Sequence[AudioFeatures],
        prompts: Sequence[Prompt],
        scope: PoolScope = "nonpad",
    ) -> Tensor:
        """Score a batch: [B, C]. A score does not depend on the other items."""
        sequence = assemble(self.embedding(), prompts, self.speech_tokens(features))
        return self.classify(self.read(sequence), sequence, scope)


def adapter_sizes(tensors: Mapping[str, Tensor], heads: int = 12) -> tuple[int, int, QFormerConfig]:
    """Return d, D and the Q-Former's sizes, from the shapes of an adapter's tensors."""
    layer = "speech_Qformer.bert.encoder.layer."
    speech, audio = len(tensors["ln_speech.weight"]), len(tensors["ln_audio.weight"])
    queries, hidden = tensors["speech_query_tokens"].shape[1:]
    config = QFormerConfig(
        encoder_width=speech + audio,
        hidden_size=hidden,
        intermediate_size=len(tensors[f"{layer}0.intermediate_query.dense.weight"]),
        num_attention_heads=heads,
        num_hidden_layers=len({k.split(".")[4] for k in tensors if k.startswith(layer)}),
        num_query_tokens=queries,
    )
    return speech, audio, config
