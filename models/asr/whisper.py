"""Whisper by faster-whisper (CTranslate2): any size, segments of several streams in one call.

A segment is decoded in a window cut to its length (`engine.py`). If the text is doubtful, the
segment is decoded again in the window of 30 s on which Whisper was trained; a text that is still
doubtful is dropped (`guards.py`). Decoding is deterministic. A partial continues from the words on
which two passes agreed (`tail.py`). A final transcription does not depend on partials.

A multilingual model detects a stream's language and then keeps it. An English-only model detects
other languages by the low probability of its texts (`voice.py`).
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from abhinaya.models.asr import carrier, voice
from abhinaya.models.asr.base import Audio, Hearing, Transcription
from abhinaya.models.asr.decoder import Decoder, Pass, Segment
from abhinaya.models.asr.engine import Engine, padded_frames
from abhinaya.models.asr.guards import Evidence, read_guards, rejection, speech_seconds
from abhinaya.models.asr.options import check_options
from abhinaya.models.asr.prompt import Prompter
from abhinaya.models.asr.tail import Tails, agreed, without_loop
from abhinaya.models.asr.voice import Voice
from abhinaya.models.base import SAMPLE_RATE
from abhinaya.models.errors import OptionsError, RunError

LONGEST_SAMPLES: Final = 30 * SAMPLE_RATE
LEAST_SAMPLES: Final = SAMPLE_RATE // 100
"""One frame; a shorter segment has no text."""
"""Together with the longest prompt these fill Whisper's 448 positions."""
TOKENS_PER_S: Final = 8
"""Maximum tokens per second of a partial; speech has less."""
NOT_ENGLISH: Final = "not English"
PARTIAL_LENIENCE: Final = 0.6
"""Partials need this much less evidence, since their words may still change. After .7 s, two of
three segments have words instead of one; for noises the share is .22 instead of .02."""
LARGE_BYTES: Final = 1 << 30
"""Models from this size on use the window of 30 s: they were not measured with the cut window."""


class Whisper:
    """Transcribes segments of at most 30 s.

    Args:
        model: a size (`tiny.en`, `base`, `large-v3`), a repository of converted models, or a local
            CTranslate2 folder; see `carrier.py`.
        device: `auto`, `cpu` or `cuda`.
        compute_type: precision, for example `int8` or `float16`; `default` is `int8` on a CPU and
            the model's own on a GPU.
        window: `cut` to the segment, the `whole` 30 s, or `auto`: cut on a CPU unless the model is
            large.
        language: ISO 639-1; empty to detect it for each stream.
        task: `transcribe`, or `translate` to add an English translation.
        beam_size: beams of final transcriptions; 1 is greedy and a tenth cheaper, with 4 to 7 %
            more word errors.
        previous_text: whether to prompt with the text of the previous segment. Names and style
            stay the same, and mistakes too. A segment without text ends a repetition.
        hotwords: words and names to expect, with spaces or commas between them.
        word_times: whether to align words with the audio, in one more pass (not of partials).
        guards: changed thresholds (`guards.py`).
        max_new_tokens: maximum tokens of a segment; 10 s of speech have well under 128.
        threads: CPU threads; 0 lets CTranslate2 choose.
        licence: licence of the model; the published Whisper models are MIT.
        noncommercial: whether that licence forbids commercial use.

    Raises:
        ModelError: the model or device is missing, or an option is not valid.

    """

    def __init__(
        self,
        model: str = "tiny.en",
        *,
        device: str = "auto",
        compute_type: str = "default",
        window: Literal["auto", "cut", "whole"] = "auto",
        language: str = "",
        task: Literal["transcribe", "translate"] = "transcribe",
        beam_size: int = 5,
        previous_text: bool = False,
        hotwords: str | Sequence[str] = "",
        word_times: bool = True,
        guards: Mapping[str, Any] | None = None,
        max_new_tokens: int = 128,
        threads: int = 0,
        licence: str = "MIT",
        noncommercial: bool = False,
    ) -> None:
        given = {"device": device, "compute_type": compute_type, "threads": threads}
        given |= {"window": window, "beam_size": beam_size, "max_new_tokens": max_new_tokens}
        check_options(given | {"task": task, "language": language, "model": model})
        self._guards = read_guards(guards)
        self._partial_guards = self._guards.lenient(PARTIAL_LENIENCE)
        folder = carrier.find(model)
        self._engine = Engine(folder, device, compute_type, threads)
        self._check_language(model, language, task)
        self.model = f"faster-whisper {Path(model).name if Path(model).is_dir() else model}"
        self.version = importlib.metadata.version("faster-whisper")
        self.licence = licence
        self.noncommercial = noncommercial
        self.context_turns = 1 if previous_text else 0
        self._language = language or ("" if self._engine.multilingual else "en")
        self._english_only = not self._engine.multilingual
        self._foreign = (
            f"this does not seem to be English, the only language of {Path(model).name}; "
            "for 99 languages: --set asr.options.model=base"
        )
        self._whole = window == "whole" or (window == "auto" and self._is_large(folder))
        self._prompter = Prompter(self._engine, hotwords, previous_text)
        rest = beam_size, max_new_tokens, word_times, task == "translate"
        self._decoder = Decoder(self._engine, self._prompter, self._guards, *rest)
        self._max_new_tokens = max_new_tokens
        self._tails = Tails()
        self.incremental = not self._whole
        self.stateful = self._english_only or not language

    def _check_language(self, model: str, language: str, task: str) -> None:
        known = self._engine.languages
        remedy = "use a multilingual model: --set asr.options.model=base"
        if language and language not in known:
            raise OptionsError(
                f"asr.options.language = {language!r}",
                f"{model} does not know it",
                remedy if known == ("en",) else f"use one of {', '.join(known)}",
            )
        if task == "translate" and not self._engine.multilingual:
            raise OptionsError("asr.options.task = 'translate'", f"{model} is English-only", remedy)

    def _is_large(self, folder: Path) -> bool:
        weights = folder / carrier.WEIGHTS
        return self._engine.device != "cpu" or weights.stat().st_size >= LARGE_BYTES

    def transcribe(self, batch: Sequence[Hearing]) -> list[Transcription]:
        """Return the transcriptions; final segments of the same padded length share a call.

        Raises:
            RunError: a segment is longer than 30 s.

        """
        results = [self._empty("silence", voice.read(each.state)) for each in batch]
        finals = []
        for i, hearing in enumerate(batch):
            if len(hearing.samples) > LONGEST_SAMPLES:
                seconds = len(hearing.samples) / SAMPLE_RATE
                subject, remedy = f"a segment of {seconds:.1f} s", "cut it to 30 s or less"
                raise RunError(subject, "it is too long for Whisper", remedy)
            samples = np.nan_to_num(hearing.samples, nan=0.0, posinf=0.0, neginf=0.0)
            if hearing.final:
                self._tails.drop(hearing.stream, hearing.sequence)
            if len(samples) < LEAST_SAMPLES or not samples.any():
                continue
            context = self._prompter.context(hearing.previous)
            known = voice.read(hearing.state)
            if hearing.final:
                finals.append(Segment(i, samples, context, known))
            else:
                results[i] = self._partial(hearing, samples, context, known)
        for group in _same_lengths(finals, self._whole):
            for segment, result in zip(group, self._finals(group), strict=True):
                results[segment.index] = result
        return results

    def forget(self, stream: str, sequence: int) -> None:
        """Delete the memory of a segment's partials."""
        self._tails.drop(stream, sequence)

    # --- final segments ---------------------------------------------------------------------------

    def _finals(self, group: Sequence[Segment]) -> list[Transcription]:
        """Transcribe segments with the same length of prompt and window."""
        encoded = self._engine.encode([segment.samples for segment in group], self._whole)
        known = self._known(encoded, group)
        languages = [self._language or each.language for each in known]
        passes = self._decoder.decode(group, languages, encoded, self._whole)
        return [
            self._result(each, language, voice_, segment)
            for each, language, voice_, segment in zip(passes, languages, known, group, strict=True)
        ]

    def _known(self, encoded: Any, group: Sequence[Segment]) -> list[Voice]:
        """Return the state of each stream after this segment."""
        if self._language or all(segment.voice.held for segment in group):
            return [segment.voice for segment in group]
        detected = self._engine.detect_languages(encoded)
        return [
            segment.voice
            if segment.voice.held
            else segment.voice.after_segment(speech_seconds(segment.samples), languages)
            for segment, languages in zip(group, detected, strict=True)
        ]

    def _result(self, one: Pass, language: str, known: Voice, segment: Segment) -> Transcription:
        before = known
        if self._english_only and self._guards.reject:
            seconds, least = speech_seconds(segment.samples), self._guards.least_stream_logprob
            known = known.after_text(seconds, one.hypothesis.logprob, least)
        if known.foreign:
            return self._empty(NOT_ENGLISH if before.foreign else self._foreign, known)
        if one.reason:
            return self._empty(one.reason, known)
        return Transcription(
            one.hypothesis.text,
            one.words,
            min(1.0, math.exp(one.hypothesis.logprob)),
            language,
            self._probability(known),
            one.translation,
            state=self._state(known),
        )

    # --- partials ---------------------------------------------------------------------------------

    def _partial(
        self, hearing: Hearing, samples: Audio, context: Sequence[int], known: Voice
    ) -> Transcription:
        """Return the text so far, continued from the words on which two passes agreed."""
        if known.foreign:
            return self._empty(NOT_ENGLISH, known)
        encoded = self._engine.encode([samples], self._whole)
        if not self._language and not known.held:
            seconds = len(samples) / SAMPLE_RATE
            known = known.after_segment(seconds, self._engine.detect_languages(encoded)[0])
        language = self._language or known.language
        tokenizer = self._prompter.tokenizer(language)
        tail = self._tails.of(hearing)
        most = int(TOKENS_PER_S * (len(samples) / SAMPLE_RATE + 1)) - len(tail.settled)
        (hypothesis,) = self._engine.generate(
            encoded,
            [[*self._prompter.prompt(language, context), *tail.settled]],
            most_tokens=max(TOKENS_PER_S, min(self._max_new_tokens, most)),
            begun=bool(tail.settled),
        )
        written = without_loop(hypothesis.tokens)
        reason = rejection(Evidence.of(hypothesis, samples, self._whole), self._partial_guards)
        if reason and not tail.settled:
            return self._empty(reason, known)
        tail = tail.grown(samples, written, tokenizer)
        self._tails.keep(hearing, tail)
        text = tokenizer.decode([*tail.settled, *tail.open]).strip()
        settled = tokenizer.decode(list(tail.settled)).strip()
        return Transcription(
            text,
            confidence=min(1.0, math.exp(hypothesis.logprob)),
            language=language,
            language_probability=self._probability(known),
            stable=agreed(settled.split(), text.split()),
        )

    # --- results ----------------------------------------------------------------------------------

    def _empty(self, reason: str, known: Voice) -> Transcription:
        return Transcription(
            "",
            language=self._language or known.language,
            language_probability=self._probability(known),
            reason=reason,
            state=self._state(known),
        )

    def _probability(self, known: Voice) -> float | None:
        return None if self._language else known.probability

    def _state(self, known: Voice) -> bytes:
        return voice.write(known) if self.stateful else b""


def _same_lengths(finals: Sequence[Segment], whole: bool) -> list[list[Segment]]:
    """Group segments with the same length of prompt and window."""
    groups: dict[tuple[int, int], list[Segment]] = {}
    for segment in finals:
        key = len(segment.context), padded_frames(len(segment.samples), whole)
        groups.setdefault(key, []).append(segment)
    return list(groups.values())
