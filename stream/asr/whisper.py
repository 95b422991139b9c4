"""Whisper by faster-whisper (CTranslate2): any model, segments of several streams in one call.

Each segment is padded to Whisper's 30 s anyway, so a batch is a plain stack of spectrograms, and no
segment sees another. Decoding is deterministic (beam search, no temperature): what would need a
second try at a higher temperature comes back empty, with the reason.
"""

from __future__ import annotations

import importlib.metadata
import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from abhinaya.stream.asr.base import Audio, Hearing, SpokenWord, Transcription
from abhinaya.stream.clock import SAMPLE_RATE, to_samples
from abhinaya.stream.errors import ModelError

WINDOW_FRAMES: Final = 3000
"""Frames of 10 ms in the window that every Whisper sees."""
WINDOW_SAMPLES: Final = 30 * SAMPLE_RATE
LEAST_SAMPLES: Final = SAMPLE_RATE // 100
"""Less than one frame cannot be transcribed."""


class Whisper:
    """Transcribes segments of at most 30 s in batches.

    Args:
        model: a size (`small`, `large-v3`, `turbo`), a repository of converted models, or a local
            CTranslate2 folder.
        device: `auto`, `cpu` or `cuda`.
        compute_type: precision, for example `int8` or `float16`; `default` keeps the model's own.
        language: ISO 639-1; empty to detect it for each segment.
        beam_size: 1 is greedy and fastest.
        word_times: whether to align words with the audio, which costs another decoder pass.
        no_speech: probability of no speech above which a doubtful text is dropped.
        least_logprob: average log probability of a token below which a text is doubtful.
        most_compression: how far a text may be compressed before it counts as a loop.
        max_new_tokens: tokens of one segment at most; 10 s of speech have well under 128.
        threads: CPU threads; 0 lets CTranslate2 choose.
        download_root: where downloaded models are kept; empty for the usual cache.
        local_files_only: whether to refuse downloads.
        licence: of the model; the published Whisper models are MIT.
        noncommercial: whether that licence forbids commercial use.

    Raises:
        ModelError: the model or device cannot be had.

    """

    context_turns: Final = 0
    incremental: Final = False

    def __init__(
        self,
        model: str = "small",
        *,
        device: str = "auto",
        compute_type: str = "default",
        language: str = "",
        beam_size: int = 1,
        word_times: bool = True,
        no_speech: float = 0.6,
        least_logprob: float = -1.0,
        most_compression: float = 2.4,
        max_new_tokens: int = 128,
        threads: int = 0,
        download_root: str = "",
        local_files_only: bool = False,
        licence: str = "MIT",
        noncommercial: bool = False,
    ) -> None:
        self._whisper = _load(
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
        self._language = language or ("" if len(known) > 1 else known[0])
        self._beam_size = beam_size
        self._word_times = word_times
        self._no_speech = no_speech
        self._least_logprob = least_logprob
        self._most_compression = most_compression
        self._max_new_tokens = max_new_tokens
        self._tokenizers: dict[str, Any] = {}

    def transcribe(self, batch: Sequence[Hearing]) -> list[Transcription]:
        """Transcribe all segments in one call of the model.

        Raises:
            ValueError: a segment is longer than 30 s.

        """
        for hearing in batch:
            seconds = len(hearing.samples) / SAMPLE_RATE
            if len(hearing.samples) > WINDOW_SAMPLES:
                raise ValueError(f"a segment of {seconds:.1f} s is over 30 s")
        results = [Transcription("", language=self._language, reason="silence") for _ in batch]
        heard = [i for i, hearing in enumerate(batch) if _audible(hearing.samples)]
        if heard:
            texts = self._batch([batch[i].samples for i in heard])
            for i, text in zip(heard, texts, strict=True):
                results[i] = text
        return results

    def forget(self, stream: str, sequence: int) -> None:
        """Do nothing: nothing is kept."""

    def _batch(self, batch: Sequence[Audio]) -> list[Transcription]:
        encoded = self._whisper.encode(np.stack([self._features(samples) for samples in batch]))
        languages = self._languages(encoded, len(batch))
        prompts = [
            [*tokenizer.sot_sequence, tokenizer.no_timestamps]
            for tokenizer in map(self._tokenizer, languages)
        ]
        outputs = self._whisper.model.generate(
            encoded,
            prompts,
            beam_size=self._beam_size,
            # CTranslate2 keeps half of max_length for a prompt, whatever the prompt's length.
            max_length=2 * self._max_new_tokens,
            suppress_blank=True,
            suppress_tokens=[-1],
            return_scores=True,
            return_no_speech_prob=True,
        )
        texts = [
            self._text(output, language)
            for output, language in zip(outputs, languages, strict=True)
        ]
        if not (self._word_times and any(text.text for text in texts)):
            return texts
        tokens = [
            output.sequences_ids[0] if text.text else []
            for output, text in zip(outputs, texts, strict=True)
        ]
        words = self._words(encoded, tokens, languages, batch)
        return [
            Transcription(text.text, tuple(spoken), text.confidence, text.language, text.reason)
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

    def _tokenizer(self, language: str) -> Any:
        if language not in self._tokenizers:
            from faster_whisper.tokenizer import Tokenizer

            self._tokenizers[language] = Tokenizer(
                self._whisper.hf_tokenizer,
                self._whisper.model.is_multilingual,
                task="transcribe",
                language=language,
            )
        return self._tokenizers[language]

    def _text(self, output: Any, language: str) -> Transcription:
        """Read one hypothesis, and drop what Whisper's own rules would not believe."""
        tokens = output.sequences_ids[0]
        text = self._tokenizer(language).decode(tokens).strip()
        # The score is already the mean over the tokens; the end of text counts as one of them.
        logprob = output.scores[0] * len(tokens) / (len(tokens) + 1)
        if output.no_speech_prob > self._no_speech and logprob < self._least_logprob:
            reason = f"no speech (probability {output.no_speech_prob:.2f})"
        elif not text:
            reason = "no words recognised"
        elif _compression(text) > self._most_compression:
            reason = "the recogniser repeated itself"
        else:
            return Transcription(text, (), min(1.0, math.exp(logprob)), language)
        return Transcription("", language=language, reason=reason)

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
            tokenizer = self._tokenizer(language)
            spoken = [[t for t in sequence if t < tokenizer.eot] for sequence in tokens]
            alignments = self._whisper.find_alignment(tokenizer, spoken, encoded, frames)
            for i, alignment in enumerate(alignments):
                if languages[i] == language and spoken[i]:
                    words[i] = list(_spoken(alignment, len(batch[i])))
        return words


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


def _compression(text: str) -> float:
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def _load(model: str, **options: Any) -> Any:
    """Load a model, with whatever stands in the way said in our own words."""
    subject = f"Whisper model {model!r}"
    looks_like_path = model.startswith((".", "/", "~"))
    folder = str(Path(model).expanduser()) if looks_like_path else model
    if looks_like_path and not Path(folder).is_dir():
        raise ModelError(subject, "no such folder", "give a folder converted for CTranslate2")
    if Path(folder).is_dir() and not (Path(folder) / "model.bin").is_file():
        raise ModelError(
            subject,
            "is not a CTranslate2 model: it has no model.bin",
            "convert it with ct2-transformers-converter",
        )
    from faster_whisper import WhisperModel

    try:
        return WhisperModel(folder, **options)
    except Exception as error:  # the hub, the network, CUDA and CTranslate2 raise what they like
        raise ModelError(
            subject,
            f"cannot be loaded: {_first_line(error)}",
            _remedy(error, Path(folder).is_dir()),
        ) from error


def _remedy(error: Exception, local: bool) -> str:
    text = str(error).lower()
    if "invalid model size" in text:
        return "give one of these sizes, a repository, or a local folder"
    if "cuda" in text or "cublas" in text or "cudnn" in text:
        return "use --asr.options.device=cpu, or install a CUDA that CTranslate2 knows"
    if "compute type" in text:
        return "choose a compute_type that this device has, or `default`"
    if local:
        return "convert it again with ct2-transformers-converter"
    return "check the network, or put the model on this machine and give its folder as `model`"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
