"""One pass over encoded segments: what they say, whether it is believed, when, and in English."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from abhinaya.models.asr.base import Audio, SpokenWord
from abhinaya.models.asr.engine import Engine, Hypothesis
from abhinaya.models.asr.guards import (
    Evidence,
    Guards,
    doubt,
    impossible,
    speech_seconds,
    suspicious,
)
from abhinaya.models.asr.prompt import Prompter
from abhinaya.models.asr.voice import Voice
from abhinaya.models.base import SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Heard:
    """A final segment on its way."""

    index: int
    """In the batch."""
    samples: Audio
    context: tuple[int, ...]
    voice: Voice


@dataclass(frozen=True, slots=True)
class Said:
    """What one pass over a segment came to."""

    hypothesis: Hypothesis
    reason: str
    """Why it is not believed; empty if it is."""
    suspicious: bool
    """Whether to ask again with the whole window."""
    words: tuple[SpokenWord, ...] = ()
    translation: str = ""


class Decoder:
    """Reads the encoder's output of final segments.

    Args:
        engine: the loaded model.
        prompter: of the same model.
        guards: what is not believed.
        beam_size: 1 is greedy.
        most_tokens: of one segment.
        word_times: whether to align words with the audio.
        translate: whether to have English beside other languages.

    """

    def __init__(
        self,
        engine: Engine,
        prompter: Prompter,
        guards: Guards,
        *,
        beam_size: int,
        most_tokens: int,
        word_times: bool,
        translate: bool,
    ) -> None:
        self._engine = engine
        self._prompter = prompter
        self._guards = guards
        self._beam_size = beam_size
        self._most_tokens = most_tokens
        self._word_times = word_times
        self._translate = translate

    def listen(self, encoded: Any, group: Sequence[Heard], languages: Sequence[str]) -> list[Said]:
        """Decode, doubt, align and translate encoded segments."""
        prompts = [
            self._prompter.prompt(language, heard.context)
            for language, heard in zip(languages, group, strict=True)
        ]
        hypotheses = self._generate(encoded, prompts)
        said = []
        for heard, hypothesis in zip(group, hypotheses, strict=True):
            evidence = evidence_of(hypothesis, heard.samples)
            reason = doubt(evidence, self._guards)
            said.append(Said(hypothesis, reason, suspicious(evidence, self._guards)))
        words = self._words(encoded, said, languages, group)
        translations = self._translations(encoded, said, languages, group)
        return [
            dataclasses.replace(each, words=spoken, translation=english)
            for each, spoken, english in zip(said, words, translations, strict=True)
        ]

    def _generate(self, encoded: Any, prompts: Sequence[Sequence[int]]) -> list[Hypothesis]:
        return self._engine.generate(
            encoded, prompts, beam_size=self._beam_size, most_tokens=self._most_tokens
        )

    def _words(
        self,
        encoded: Any,
        said: Sequence[Said],
        languages: Sequence[str],
        group: Sequence[Heard],
    ) -> list[tuple[SpokenWord, ...]]:
        """Align what is believed with the audio, one pass for each language of the group."""
        words: list[tuple[SpokenWord, ...]] = [() for _ in said]
        believed = [bool(self._word_times and not each.reason) for each in said]
        lengths = [len(heard.samples) for heard in group]
        for language in dict.fromkeys(
            spoken for spoken, wanted in zip(languages, believed, strict=True) if wanted
        ):
            tokens = [
                each.hypothesis.tokens if wanted and spoken == language else ()
                for each, wanted, spoken in zip(said, believed, languages, strict=True)
            ]
            tokenizer = self._prompter.tokenizer(language)
            for i, aligned in enumerate(self._engine.align(encoded, tokens, tokenizer, lengths)):
                words[i] = aligned or words[i]
        return words

    def _translations(
        self,
        encoded: Any,
        said: Sequence[Said],
        languages: Sequence[str],
        group: Sequence[Heard],
    ) -> list[str]:
        """Return what is believed in English, where it is in another language.

        A translation is less probable than what was said: only an impossible one is dropped.
        """
        wanted = [
            self._translate and not each.reason and language != "en"
            for each, language in zip(said, languages, strict=True)
        ]
        if not any(wanted):
            return ["" for _ in said]
        prompts = [self._prompter.prompt(language, (), "translate") for language in languages]
        english = self._generate(encoded, prompts)
        return [
            each.text
            if asked and not impossible(evidence_of(each, heard.samples), self._guards)
            else ""
            for each, asked, heard in zip(english, wanted, group, strict=True)
        ]


def evidence_of(hypothesis: Hypothesis, samples: Audio) -> Evidence:
    """Return what is known of a text."""
    return Evidence(
        hypothesis.text,
        len(hypothesis.tokens),
        len(set(hypothesis.tokens)),
        len(samples) / SAMPLE_RATE,
        speech_seconds(samples),
        hypothesis.no_speech,
        hypothesis.logprob,
    )
