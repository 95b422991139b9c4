"""Decode encoded segments: text, guards, word times, and translation into English."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from abhinaya.models.asr.base import Audio, SpokenWord
from abhinaya.models.asr.engine import Engine, Hypothesis
from abhinaya.models.asr.guards import Evidence, Guards, impossible, needs_retry, rejection
from abhinaya.models.asr.prompt import TRANSCRIBE, TRANSLATE, Prompter
from abhinaya.models.asr.voice import Voice


@dataclass(frozen=True, slots=True)
class Segment:
    """A final segment, with its context."""

    index: int
    """Its place in the batch."""
    samples: Audio
    context: tuple[int, ...]
    voice: Voice


@dataclass(frozen=True, slots=True)
class Pass:
    """The result of one pass over a segment."""

    hypothesis: Hypothesis
    reason: str
    """Why the text is rejected; empty if it is accepted."""
    retry: bool
    """Whether the segment should be decoded again in the window of 30 s."""
    words: tuple[SpokenWord, ...] = ()
    translation: str = ""


@dataclass(frozen=True, slots=True)
class Decoder:
    """Turns the encoder's output of final segments into texts."""

    engine: Engine
    prompter: Prompter
    guards: Guards
    beam_size: int
    """Beams of the search; 1 is greedy."""
    most_tokens: int
    """Maximum number of tokens of one segment."""
    word_times: bool
    """Whether to align words with the audio."""
    translate: bool
    """Whether to translate other languages into English."""

    def decode(
        self, group: Sequence[Segment], languages: Sequence[str], encoded: Any, whole: bool
    ) -> list[Pass]:
        """Return one pass for each segment; doubtful ones are decoded again in the 30 s window."""
        passes = self._decode(group, languages, encoded, whole)
        for i, first in enumerate(passes):
            if first.retry and not whole:
                again = self.engine.encode([group[i].samples], whole=True)
                (second,) = self._decode([group[i]], [languages[i]], again, whole=True)
                passes[i] = first if second.reason and not first.reason else second
        return passes

    def _decode(
        self, group: Sequence[Segment], languages: Sequence[str], encoded: Any, whole: bool
    ) -> list[Pass]:
        passes = []
        found = self._generate(group, languages, encoded, TRANSCRIBE)
        for segment, hypothesis in zip(group, found, strict=True):
            evidence = Evidence.of(hypothesis, segment.samples, whole)
            reason = rejection(evidence, self.guards) if self.guards.reject else ""
            passes.append(Pass(hypothesis, reason, needs_retry(evidence, self.guards)))
        if self.word_times:
            self._add_times(group, languages, encoded, passes)
        if self.translate:
            self._add_english(group, languages, encoded, passes)
        return passes

    def _generate(
        self, group: Sequence[Segment], languages: Sequence[str], encoded: Any, task: str
    ) -> list[Hypothesis]:
        prompts = [
            self.prompter.prompt(language, segment.context if task == TRANSCRIBE else (), task)
            for language, segment in zip(languages, group, strict=True)
        ]
        return self.engine.generate(
            encoded, prompts, beam_size=self.beam_size, most_tokens=self.most_tokens
        )

    def _add_times(
        self, group: Sequence[Segment], languages: Sequence[str], encoded: Any, passes: list[Pass]
    ) -> None:
        """Add word times to accepted texts, one language after the other."""
        lengths = [len(segment.samples) for segment in group]
        for language in dict.fromkeys(languages):
            at = [i for i, p in enumerate(passes) if languages[i] == language and not p.reason]
            tokens = [each.hypothesis.tokens if i in at else () for i, each in enumerate(passes)]
            tokenizer = self.prompter.tokenizer(language)
            aligned = self.engine.align(encoded, tokens, tokenizer, lengths) if at else []
            for i in at:
                passes[i] = replace(passes[i], words=aligned[i])

    def _add_english(
        self, group: Sequence[Segment], languages: Sequence[str], encoded: Any, passes: list[Pass]
    ) -> None:
        """Add translations to accepted texts in other languages.

        Only impossible translations are dropped: they have less evidence than transcripts.
        """
        at = [i for i, each in enumerate(passes) if not each.reason and languages[i] != "en"]
        found = self._generate(group, languages, encoded, TRANSLATE) if at else []
        for i in at:
            if not impossible(Evidence.of(found[i], group[i].samples), self.guards):
                passes[i] = replace(passes[i], translation=found[i].text)
