"""The options of the networks `encoder` and `fusion`: in recipes, and in config.json. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from abhinaya.models.base import Need
from abhinaya.models.fields import setting

HEADS: Final = ("primary", "attributes", "secondary", "gender", "neutral")
"""Outputs of a network, in order: labels, arousal to dominance, votes for further labels, gender of
the speaker, neutral against the rest."""
EMBEDDED: Final = "embedded"
"""Name of the Whisper encoder that a pip package brings along (`models/asr/carrier.py`)."""

LONGEST_EMBEDDED_S: Final = 29


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """A pre-trained encoder of audio or text, and what follows it before the fusion."""

    name: str = setting(doc="folder or name on the Hub; embedded: Whisper of the pip package")
    modality: str = setting("audio", doc="what it reads", choices=("audio", "text"))
    layers: str = setting("last", doc="last, learned (softmax weights), or sum:K (of the last K)")
    train: str = setting(
        "frozen", doc="frozen, tuned (all but convolutions), top:K (the last K layers), or lora"
    )
    neck: str = setting(
        "identity",
        doc="layers on each of its frames, of the network's width",
        choices=("identity", "linear", "linear_ln", "conv", "mlp", "bigru"),
    )
    pool: str = setting(
        "mean",
        doc="how frames become one vector; cls: the first; asp: attentive statistics",
        choices=("mean", "attention", "asp", "cls"),
    )
    max_s: float = setting(10.0, doc="longest audio, in seconds; Whisper's window", least=1)
    max_tokens: int = setting(128, doc="longest transcript, in tokens", least=4)
    normalise: str = setting(
        "utterance",
        doc="scaling of a wave (not for Whisper); global: by the training clips",
        choices=("none", "utterance", "global"),
    )
    rank: int = setting(8, doc="rank of LoRA", least=1)
    alpha: float = setting(32.0, doc="numerator of LoRA's scale", least=0)
    targets: tuple[str, ...] = setting((), doc="linear layers with LoRA; none: of attention")

    @property
    def frozen(self) -> bool:
        """Whether it is not trained, so that its features can be stored."""
        return self.train == "frozen"

    @property
    def last(self) -> int:
        """K of layers = sum:K; 1 for the last layer alone, 0 for learned weights of all."""
        return 0 if self.layers == "learned" else int(self.layers.partition(":")[2] or 1)

    @property
    def top(self) -> int:
        """K of train = top:K, else 0."""
        return int(self.train.partition(":")[2] or 0)

    def faults(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong, and the key."""
        if not re.fullmatch(r"last|learned|sum:[1-9]\d*", self.layers):
            yield f"layers = {self.layers!r}: use last, learned, or sum:K", "layers"
        if not re.fullmatch(r"frozen|tuned|lora|top:[1-9]\d*", self.train):
            yield f"train = {self.train!r}: use frozen, tuned, lora, or top:K", "train"
        if self.name == EMBEDDED and (not self.frozen or self.modality != "audio"):
            yield "the embedded encoder reads audio and stays frozen", "train"
        if self.name == EMBEDDED and self.max_s > LONGEST_EMBEDDED_S:
            yield f"the embedded encoder reads {LONGEST_EMBEDDED_S} s at most", "max_s"


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """Encoders, their fusion into one vector, hidden layers, and a linear layer for each head."""

    members: tuple[EncoderSpec, ...] = setting(doc="the encoders, [[model.options.members]]")
    fuse: str = setting(
        "concat",
        doc="concat, lstm, gate: of pooled vectors; time: attention over all frames, then the pool "
        "of the first member; cross: attention to the other members' frames; deep: MEDUSA's legs",
        choices=("concat", "lstm", "gate", "time", "cross", "deep"),
    )
    width: int = setting(512, doc="width of necks and fusion", least=1)
    attention_heads: int = setting(1, doc="attention heads of time, cross and deep", least=1)
    hidden: tuple[int, ...] = setting((1024,), doc="widths of the hidden layers")
    head_hidden: int = setting(0, doc="width of a hidden layer in each head; 0: none", least=0)
    norm: bool = setting(True, doc="LayerNorm in the hidden layers")
    residual: bool = setting(False, doc="add the input of a hidden layer of equal width")
    input_norm: bool = setting(False, doc="LayerNorm of the fused vector")
    input_dropout: float = setting(0.0, doc="dropout of the fused vector", least=0, most=0.95)
    dropout: float = setting(0.5, doc="dropout of the hidden layers", least=0, most=0.95)
    inner_dropout: float = setting(0.1, doc="dropout of necks and fusion", least=0, most=0.95)

    @property
    def needs(self) -> frozenset[Need]:
        """What its members read."""
        return frozenset("audio" if m.modality == "audio" else "transcript" for m in self.members)

    def faults(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong, and the key."""
        if not self.members:
            yield "members is empty: name at least one encoder", "members"
        for i, member in enumerate(self.members):
            for text, key in member.faults():
                yield f"members[{i}]: {text}", f"members[{i}].{key}"
        if self.width % self.attention_heads:
            yield "width must be a multiple of attention_heads", "width"
