"""Decode encoded segments: what they say, whether to believe it, word times, and English."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from abhinaya.models.asr.base import Audio, SpokenWord
from abhinaya.models.asr.engine import Engine, Hypothesis
from abhinaya.models.asr.guards import Evidence, Guards, doubt, impossible, in_doubt
from abhinaya.models.asr.prompt import TRANSCRIBE, TRANSLATE, Prompter
from abhinaya.models.asr.voice import Voice


@dataclass(frozen=True, slots=True)
class Heard:
    """A final segment."""

    index: int
    """In the batch."""
    samples: Audio
    context: tuple[int, ...]
    voice: Voice


@dataclass(frozen=True, slots=True)
class Said:
    """The result of one pass over a segment."""

    hypothesis: Hypothesis
    reason: str
    """Why it is not believed; empty if it is."""
    again: bool
    """Whether to hear the segment again in the whole window."""
    words: tuple[SpokenWord, ...] = ()
    translation: str = ""


@dataclass(frozen=True, slots=True)
class Decoder:
    """Reads the encoder's output of final segments."""

    engine: Engine
    prompter: Prompter
    guards: Guards
    beam_size: int
    """1 is greedy."""
    most_tokens: int
    """Of one segment."""
    word_times: bool
    """Whether to align words with the audio."""
    translate: bool
    """Whether to have English beside other languages."""

    def listen(
        self, group: Sequence[Heard], languages: Sequence[str], encoded: Any, whole: bool
    ) -> list[Said]:
        """Return what encoded segments say; those in doubt are heard again in the whole window."""
        said = self._decode(group, languages, encoded, whole)
        for i, first in enumerate(said):
            if first.again and not whole:
                again = self.engine.encode([group[i].samples], whole=True)
                (second,) = self._decode([group[i]], [languages[i]], again, whole=True)
                said[i] = first if second.reason and not first.reason else second
        return said

    def _decode(
        self, group: Sequence[Heard], languages: Sequence[str], encoded: Any, whole: bool
    ) -> list[Said]:
        said = []
        found = self._generate(group, languages, encoded, TRANSCRIBE)
        for heard, hypothesis in zip(group, found, strict=True):
            evidence = Evidence.of(hypothesis, heard.samples, whole)
            reason = doubt(evidence, self.guards)
            said.append(Said(hypothesis, reason, in_doubt(evidence, self.guards)))
        for language in dict.fromkeys(languages):
            mine = [i for i, s in enumerate(said) if languages[i] == language and not s.reason]
            if mine and self.word_times:
                self._align(group, language, encoded, said, mine)
        if self.translate:
            self._add_english(group, languages, encoded, said)
        return said

    def _generate(
        self, group: Sequence[Heard], languages: Sequence[str], encoded: Any, task: str
    ) -> list[Hypothesis]:
        prompts = [
            self.prompter.prompt(language, heard.context if task == TRANSCRIBE else (), task)
            for language, heard in zip(languages, group, strict=True)
        ]
        return self.engine.generate(
            encoded, prompts, beam_size=self.beam_size, most_tokens=self.most_tokens
        )

    def _align(
        self, group: Sequence[Heard], language: str, encoded: Any, said: list[Said], mine: list[int]
    ) -> None:
        """Add the word times of the texts at the places `mine`, all of one language."""
        tokens = [each.hypothesis.tokens if i in mine else () for i, each in enumerate(said)]
        lengths = [len(heard.samples) for heard in group]
        aligned = self.engine.align(encoded, tokens, self.prompter.tokenizer(language), lengths)
        for i in mine:
            said[i] = replace(said[i], words=aligned[i])

    def _add_english(
        self, group: Sequence[Heard], languages: Sequence[str], encoded: Any, said: list[Said]
    ) -> None:
        """Add English to believed texts of other languages.

        A translation is less probable than what was said: only an impossible one is dropped.
        """
        mine = [i for i, each in enumerate(said) if not each.reason and languages[i] != "en"]
        found = self._generate(group, languages, encoded, TRANSLATE) if mine else []
        for i in mine:
            if not impossible(Evidence.of(found[i], group[i].samples), self.guards):
                said[i] = replace(said[i], translation=found[i].text)
