"""Whisper by faster-whisper (CTranslate2): any model, segments of several streams in one call.

Each segment is padded to Whisper's 30 s anyway, so a batch is a plain stack of spectrograms, and no
segment sees another. Decoding is deterministic (beam search, no temperature): what would need a
second try at a higher temperature comes back empty, with the reason.

A segment that still goes on is decoded anew at each part; the words that two consecutive passes
agree on are settled (`agreement.py`). The final pass does not build on them: its text would then
depend on which parts happened to arrive, and an early mistake would stay.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from abhinaya.stream.asr import whisper_load
from abhinaya.stream.asr.agreement import agreed
from abhinaya.stream.asr.base import Audio, Hearing, SpokenWord, Transcription
from abhinaya.stream.asr.guards import WHISPER, Evidence, doubt, read_guards
from abhinaya.stream.asr.whisper_prompt import Prompter, by_length
from abhinaya.stream.clock import SAMPLE_RATE, to_samples, to_seconds
from abhinaya.stream.errors import ModelError

WINDOW_FRAMES: Final = 3000
"""Frames of 10 ms in the window that every Whisper sees."""
WINDOW_SAMPLES: Final = 30 * SAMPLE_RATE
LEAST_SAMPLES: Final = SAMPLE_RATE // 100
"""Less than one frame cannot be transcribed."""
MOST_NEW_TOKENS: Final = 200
"""With the longest prompt these fill Whisper's 448 positions."""
MOST_FOLLOWED: Final = 256
"""Segments whose words so far are kept: of some the end never comes."""


class Whisper:
    """Transcribes segments of at most 30 s in batches.

    Args:
        model: a size (`small`, `large-v3`, `turbo`), a repository of converted models, or a local
            CTranslate2 folder.
        device: `auto`, `cpu` or `cuda`.
        compute_type: precision, for example `int8` or `float16`; `default` keeps the model's own.
        language: ISO 639-1; empty to detect it for each segment.
        beam_size: 1 is greedy and fastest.
        previous_text: whether to prompt with the text of the segment before, which keeps names and
            style, and mistakes. None after a segment that had none, so that a loop ends there.
        hotwords: words and names to expect, with spaces or commas between them.
        word_times: whether to align words with the audio, which costs another decoder pass. Parts
            go without.
        guards: thresholds of what is not believed (`guards.py`) that are not to be WHISPER's.
        max_new_tokens: tokens of one segment at most; 10 s of speech have well under 128.
        threads: CPU threads; 0 lets CTranslate2 choose.
        download_root: where downloaded models are kept; empty for the usual cache.
        local_files_only: whether to refuse downloads.
        licence: of the model; the published Whisper models are MIT.
        noncommercial: whether that licence forbids commercial use.

    Raises:
        ModelError: the model or device cannot be had, or an option does not fit.

    """

    stateful: Final = False
    incremental: Final = False

    def __init__(
        self,
        model: str = "small",
        *,
        device: str = "auto",
        compute_type: str = "default",
        language: str = "",
        beam_size: int = 1,
        previous_text: bool = False,
        hotwords: str | Sequence[str] = "",
        word_times: bool = True,
        guards: Mapping[str, Any] | None = None,
        max_new_tokens: int = 128,
        threads: int = 0,
        download_root: str = "",
        local_files_only: bool = False,
        licence: str = "MIT",
        noncommercial: bool = False,
    ) -> None:
        _check("beam_size", beam_size, 64)
        _check("max_new_tokens", max_new_tokens, MOST_NEW_TOKENS)
        self._guards = read_guards(WHISPER, guards)
        self._whisper = whisper_load.load(
            model,
            device=device,
            compute_type=compute_type,
            cpu_threads=threads,
            download_root=download_root or None,
            local_files_only=local_files_only,
        )
        known = self._whisper.supported_languages
        if language and language not in known:
            raise ModelError(
                f"asr.options.language = {language!r}",
                f"is no language of {model}",
                f"known: {', '.join(known)}",
            )
        self.model = f"faster-whisper {Path(model).name if Path(model).is_dir() else model}"
        self.version = importlib.metadata.version("faster-whisper")
        self.licence = licence
        self.noncommercial = noncommercial
        self.context_turns = 1 if previous_text else 0
        self._language = language or ("" if len(known) > 1 else known[0])
        self._prompter = Prompter(self._whisper, hotwords, previous_text)
        self._beam_size = beam_size
        self._word_times = word_times
        self._max_new_tokens = max_new_tokens
        self._said: OrderedDict[tuple[str, int], list[str]] = OrderedDict()
        """The words of the part before, of segments that go on."""

    def transcribe(self, batch: Sequence[Hearing]) -> list[Transcription]:
        """Transcribe all segments, with one call of the model for each length of prompt.

        Raises:
            ValueError: a segment is longer than 30 s.

        """
        for hearing in batch:
            seconds = to_seconds(len(hearing.samples))
            if len(hearing.samples) > WINDOW_SAMPLES:
                raise ValueError(f"a segment of {seconds:.1f} s is over 30 s")
        results = [Transcription("", language=self._language, reason="silence") for _ in batch]
        heard = [i for i, hearing in enumerate(batch) if _audible(hearing.samples)]
        contexts = {i: self._prompter.context(batch[i].previous) for i in heard}
        for alike in by_length(contexts):
            texts = self._batch([batch[i] for i in alike], [contexts[i] for i in alike])
            for i, text in zip(alike, texts, strict=True):
                results[i] = text
        return [self._settled(h, text) for h, text in zip(batch, results, strict=True)]

    def forget(self, stream: str, sequence: int) -> None:
        """Drop the words of a segment so far."""
        self._said.pop((stream, sequence), None)

    def _settled(self, hearing: Hearing, text: Transcription) -> Transcription:
        """Count what the part before says as well, and remember this one."""
        before = self._said.pop((hearing.stream, hearing.sequence), [])
        if hearing.final:
            return text
        words = text.text.split()
        self._said[hearing.stream, hearing.sequence] = words
        if len(self._said) > MOST_FOLLOWED:
            self._said.popitem(last=False)
        return dataclasses.replace(text, stable=agreed(before, words))

    def _batch(
        self, batch: Sequence[Hearing], contexts: Sequence[Sequence[int]]
    ) -> list[Transcription]:
        """Transcribe segments whose prompts are of one length."""
        encoded = self._whisper.encode(np.stack([self._features(h.samples) for h in batch]))
        languages = self._languages(encoded, len(batch))
        prompts = [
            self._prompter.prompt(language, context)
            for language, context in zip(languages, contexts, strict=True)
        ]
        outputs = self._whisper.model.generate(
            encoded,
            prompts,
            beam_size=self._beam_size,
            # CTranslate2 keeps at least half of max_length for the prompt.
            max_length=self._max_new_tokens + max(self._max_new_tokens, len(prompts[0]) - 1),
            suppress_blank=True,
            suppress_tokens=[-1],
            return_scores=True,
            return_no_speech_prob=True,
        )
        texts = [
            self._text(output, language, to_seconds(len(hearing.samples)))
            for output, language, hearing in zip(outputs, languages, batch, strict=True)
        ]
        tokens = [
            output.sequences_ids[0] if self._word_times and hearing.final and text.text else []
            for output, hearing, text in zip(outputs, batch, texts, strict=True)
        ]
        if not any(tokens):
            return texts
        words = self._words(encoded, tokens, languages, [h.samples for h in batch])
        return [
            dataclasses.replace(text, words=tuple(spoken))
            for text, spoken in zip(texts, words, strict=True)
        ]

    def _features(self, samples: Audio) -> npt.NDArray[np.float32]:
        """Give the log-mel spectrogram [M, 3000], padded with silence as faster-whisper does."""
        clean = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
        mel: npt.NDArray[np.float32] = self._whisper.feature_extractor(clean)[..., :-1]
        mel = mel[:, :WINDOW_FRAMES]
        padded = np.pad(mel, ((0, 0), (0, WINDOW_FRAMES - mel.shape[1])))
        return padded.astype(np.float32, copy=False)

    def _languages(self, encoded: Any, size: int) -> list[str]:
        if self._language:
            return [self._language] * size
        # Each entry is a list of ("<|en|>", probability), best first.
        return [best[0][0][2:-2] for best in self._whisper.model.detect_language(encoded)]

    def _text(self, output: Any, language: str, seconds: float) -> Transcription:
        """Read one hypothesis, and drop what should not be believed."""
        tokens = output.sequences_ids[0]
        text = self._prompter.tokenizer(language).decode(tokens).strip()
        # The score is already the mean over the tokens; the end of text counts as one of them.
        logprob = output.scores[0] * len(tokens) / (len(tokens) + 1)
        confidence = min(1.0, math.exp(logprob))
        evidence = Evidence(text, seconds, output.no_speech_prob, logprob, confidence)
        reason = doubt(evidence, self._guards) if text else "no words recognised"
        if reason:
            return Transcription("", language=language, reason=reason)
        return Transcription(text, (), confidence, language)

    def _words(
        self,
        encoded: Any,
        tokens: list[list[int]],
        languages: Sequence[str],
        batch: Sequence[Audio],
    ) -> list[list[SpokenWord]]:
        """Align words with the audio, in one pass for each language of the batch."""
        frames = [math.ceil(len(samples) * WINDOW_FRAMES / WINDOW_SAMPLES) for samples in batch]
        words: list[list[SpokenWord]] = [[] for _ in batch]
        for language in dict.fromkeys(languages):
            tokenizer = self._prompter.tokenizer(language)
            spoken = [[t for t in sequence if t < tokenizer.eot] for sequence in tokens]
            alignments = self._whisper.find_alignment(tokenizer, spoken, encoded, frames)
            for i, alignment in enumerate(alignments):
                if languages[i] == language and spoken[i]:
                    words[i] = list(_spoken(alignment, len(batch[i])))
        return words


def _check(name: str, value: Any, most: int) -> None:
    if not isinstance(value, int) or not 1 <= value <= most:
        raise ModelError(f"asr.options.{name} = {value!r}", "does not fit", f"give 1 to {most}")


def _spoken(alignment: Sequence[dict[str, Any]], length: int) -> Iterator[SpokenWord]:
    """Yield words within a segment of `length` samples; lone punctuation joins the word before."""
    last: SpokenWord | None = None
    for entry in alignment:
        text = entry["word"].strip()
        if not text:
            continue
        start = min(to_samples(float(entry["start"])), length)
        end = max(start, min(to_samples(float(entry["end"])), length))
        if last is not None and not any(character.isalnum() for character in text):
            last = SpokenWord(last.text + text, last.start, end, last.confidence)
            continue
        if last is not None:
            yield last
        last = SpokenWord(text, start, end, min(1.0, float(entry["probability"])))
    if last is not None:
        yield last


def _audible(samples: Audio) -> bool:
    return len(samples) >= LEAST_SAMPLES and bool(np.any(np.nan_to_num(samples)))
