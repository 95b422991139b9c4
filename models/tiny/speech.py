"""S1 and ST1 of the embedded profile: voters on speech, and on speech with its words.

Both read lower layers of Whisper's encoder (`encoder.py`), relative to the voice's own mean
(`voice.py`), with attentive statistics pooling (`head.py`). ST1 also reads scores of the text
network. Short segments get probabilities nearer to neutral, because users lose trust sooner by
false alarms than by missed emotions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from safetensors import SafetensorError, safe_open

from abhinaya.models.asr import carrier
from abhinaya.models.base import (
    SAMPLE_RATE,
    Abstention,
    Ballot,
    Card,
    FloatArray,
    Need,
    Utterance,
    ballot,
)
from abhinaya.models.errors import DamagedFileError
from abhinaya.models.tiny import metadata, text
from abhinaya.models.tiny.encoder import LEVELS, WIDTH, shared
from abhinaya.models.tiny.head import Head, combined_scores, softmax
from abhinaya.models.tiny.voice import Voice

SPEECH: Final = "tiny-speech"
JOINT: Final = "tiny-joint"
FINE_UNIT: Final = 5.0
"""Divisor of the text network's scores."""
LEAST_S: Final = 0.5
"""Shortest segment that gets a label, in seconds, with the pauses around the speech."""
TOO_LITTLE: Final = "too little speech"


@dataclass(frozen=True, slots=True)
class Settings:
    """Calibration of a network."""

    temperature: float
    neutral: float
    """Bias added to the score of neutral."""
    enough_s: float
    """Segment length from which the prior no longer counts, in seconds."""
    calm: float
    """Probability of neutral in the prior."""

    def probabilities(self, scores: FloatArray, seconds: float, neutral: int) -> FloatArray:
        """Return probabilities [C'] of scores [C'], mixed with the prior if `seconds` is short."""
        own = softmax((scores + self.neutral * np.eye(len(scores))[neutral]) / self.temperature)
        trust = min(1.0, seconds / self.enough_s)
        prior = np.full(len(own), (1.0 - self.calm) / (len(own) - 1), np.float32)
        prior[neutral] = self.calm
        leaning: FloatArray = (trust * own + (1.0 - trust) * prior).astype(np.float32)
        return leaning


class SpeechNetwork:
    """The networks of one weights file, with the encoder.

    Raises:
        MissingFileError: the file does not exist.
        DamagedFileError: the file is not of this model.
        ModelError: Whisper's encoder is missing (`models.asr.carrier`).

    """

    def __init__(self, name: str, weights: str | None) -> None:
        path = metadata.find(name, ".safetensors", weights)
        remedy = metadata.REMEDY.format(name=name)
        try:
            with safe_open(path, "np") as file:
                tensors = {key: file.get_tensor(key).astype(np.float32) for key in file.keys()}  # noqa: SIM118
                entries = file.metadata() or {}
        except (SafetensorError, OSError, ValueError) as error:
            raise DamagedFileError(path, f"cannot be read: {error}", remedy) from error
        self.metadata = metadata.read(path, name, entries)
        if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
            raise DamagedFileError(path, "holds weights that are not numbers", remedy)
        try:
            self.settings = Settings(**self.metadata.settings)
            self.usual, self._unit = tensors.pop("usual"), tensors.pop("unit")
            if self.usual.shape != (len(LEVELS), WIDTH) or not tensors:
                raise ValueError(f"usual of shape {self.usual.shape}")
            if not (self._unit > 0.0).all():
                raise ValueError("a unit of 0")
            self._heads = _heads(tensors)
            self._neutral = self.metadata.labels.index("neutral")
            self._try(np.zeros(WORDS, np.float32) if name == JOINT else None)
        except (ArithmeticError, KeyError, TypeError, ValueError) as error:
            raise DamagedFileError(path, f"made for another version: {error}", remedy) from error
        self.size = sum(tensor.size for tensor in tensors.values())
        self._encoder = shared(carrier.find("tiny.en"))

    def _try(self, words: FloatArray | None) -> None:
        """Vote once, so that wrong shapes raise an error at load time, not at the first segment."""
        levels = np.zeros((len(LEVELS), 1, WIDTH), np.float32)
        found = self.judge(levels, Voice(self.usual), 1.0, words).probabilities
        if found is None or not np.isfinite(found).all():
            raise ValueError("its answers are not numbers")

    def vote(self, utterance: Utterance, words: FloatArray | None) -> Ballot | Abstention:
        """Return the vote on one utterance, with the new state of the voice."""
        voice = Voice.of(utterance.state, self.usual)
        seconds = len(utterance.samples) / SAMPLE_RATE
        if seconds < LEAST_S or not np.any(np.nan_to_num(utterance.samples)):
            return Abstention(TOO_LITTLE, state=voice.pack())
        levels = self._encoder.encode(utterance.samples)
        answer = self.judge(levels, voice, seconds, words)
        return replace(answer, state=voice.after(levels, seconds).pack())

    def judge(
        self, levels: FloatArray, voice: Voice, seconds: float, words: FloatArray | None
    ) -> Ballot:
        """Return the vote on levels [L, T, D] of a segment, without a state."""
        frames = measured(levels, voice.measure(self.usual), self._unit)
        scores = combined_scores(self._heads, frames, words)
        row = self.settings.probabilities(scores, seconds, self._neutral)
        return ballot(self.metadata.spread(row))

    def card(self, *needs: Need) -> Card:
        """Return the card."""
        return self.metadata.card(
            frozenset(needs),
            stateful=True,
            sample_rate_hz=SAMPLE_RATE,
            parameters=self.size,
            memory_mb=4 * self.size / 1e6,
        )


def _heads(tensors: Mapping[str, FloatArray]) -> list[Head]:
    """Return the networks; tensor names are `number/name`, with the number of the network."""
    found: dict[str, dict[str, FloatArray]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition("/")
        found.setdefault(number, {})[name] = tensor
    return [Head(found[number]) for number in sorted(found)]


def measured(levels: FloatArray, measure: FloatArray, unit: FloatArray) -> FloatArray:
    """Return normalised frames [T, L * D]: levels [L, T, D] minus a mean [L, D], by unit [L, D]."""
    apart = (levels - measure[:, None]) / unit[:, None]
    out: FloatArray = apart.transpose(1, 0, 2).reshape(levels.shape[1], -1)
    return out


class TinySpeech:
    """S1: votes on the sound alone. It cannot vote for contempt.

    Args:
        weights: path of another file of this model; its card must be next to it.

    """

    def __init__(self, weights: str | None = None) -> None:
        self._network = SpeechNetwork(SPEECH, weights)

    @property
    def card(self) -> Card:
        """What the model is."""
        return self._network.card("audio")

    def vote(self, batch: Sequence[Utterance]) -> list[Ballot | Abstention]:
        """Return one answer for each utterance; of too little speech an abstention."""
        return [self._network.vote(utterance, None) for utterance in batch]


class TinyJoint:
    """ST1: votes on sound and words, or on the sound alone without a transcript.

    Args:
        weights: path of another file of this model; its card must be next to it.

    """

    def __init__(self, weights: str | None = None) -> None:
        self._network = SpeechNetwork(JOINT, weights)
        self._tower = text.shared()

    @property
    def card(self) -> Card:
        """What the model is."""
        return self._network.card("audio", "transcript")

    def vote(self, batch: Sequence[Utterance]) -> list[Ballot | Abstention]:
        """Return one answer for each utterance; of too little speech an abstention."""
        readable = [i for i, utterance in enumerate(batch) if text.unreadable(utterance) is None]
        words = np.zeros((len(batch), WORDS), np.float32)
        if readable:
            _, fine = self._tower.read([batch[i].transcript for i in readable])
            words[readable] = word_features(fine)
        return [self._network.vote(*pair) for pair in zip(batch, words, strict=True)]


FINE: Final = 28
WORDS: Final = FINE + 1
"""Number of word features: a score for each fine label, and 1 if there are any words."""


def word_features(fine: FloatArray) -> FloatArray:
    """Return word features [B, WORDS], made of the scores for the 28 fine labels [B, FINE]."""
    centred = (fine - fine.mean(axis=1, keepdims=True)) / FINE_UNIT
    out: FloatArray = np.concatenate([centred, np.ones((len(fine), 1))], axis=1)
    return out.astype(np.float32)
