"""Whisper's encoder and decoder in CTranslate2: samples in, hypotheses out.

Whisper was trained on windows of 30 s, and encoding them is most of the cost on a CPU. But the
encoder accepts any length: the "cut window" is the segment with silence after it, at least
CUT_FRAMES in total.

The silence must be zeros in the log-mel spectrogram. If it is silent samples instead, which are at
the floor of the log-mel spectrogram, the decoder repeats itself (figures in docs/asr.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from abhinaya.models.asr.base import Audio, SpokenWord
from abhinaya.models.base import SAMPLE_RATE
from abhinaya.models.errors import DamagedFileError, OptionsError

FRAME_SAMPLES: Final = 160
"""Samples of one column of the log-mel spectrogram."""
WINDOW_FRAMES: Final = 3000
"""30 s."""
CUT_FRAMES: Final = 1000
"""10 s: with less the decoder repeats itself more often."""
SILENT_FRAMES: Final = 100
"""Minimum silence after a segment."""
FRAME_STEP: Final = 50
"""Lengths are rounded up to multiples of .5 s, so that more segments of a batch share a length."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A text that the decoder wrote."""

    tokens: tuple[int, ...]
    """Tokens of the text, without special tokens."""
    text: str
    logprob: float
    """Mean log probability of a token; the end of text counts as one."""
    no_speech: float
    """Probability that the segment has no speech."""


class Engine:
    """One loaded model.

    Args:
        folder: the folder of a CTranslate2 model.
        device: `auto`, `cpu` or `cuda`.
        compute_type: precision; `default` is `int8` on a CPU and the model's own on a GPU.
        threads: CPU threads; 0 lets CTranslate2 choose.

    Raises:
        ModelError: CTranslate2 cannot read the model, or the device or precision is not available.

    """

    def __init__(self, folder: Path, device: str, compute_type: str, threads: int) -> None:
        from ctranslate2 import get_cuda_device_count
        from faster_whisper import WhisperModel

        if device == "auto":
            device = "cuda" if get_cuda_device_count() else "cpu"
        if compute_type == "default" and device == "cpu":
            compute_type = "int8"
        try:
            loaded: Any = WhisperModel(
                str(folder), device=device, compute_type=compute_type, cpu_threads=threads
            )
        except Exception as error:  # CUDA, CTranslate2 and tokenizers raise errors of many types
            raise _unusable(folder, error) from error
        self.device = device
        self.model = loaded.model
        self.tokenizer = loaded.hf_tokenizer
        self.first_special: int = loaded.hf_tokenizer.token_to_id("<|endoftext|>")
        self.multilingual: bool = loaded.model.is_multilingual
        self.languages: tuple[str, ...] = tuple(loaded.supported_languages)
        self._mel = loaded.feature_extractor
        self._align = loaded.find_alignment

    def encode(self, segments: Sequence[Audio], whole: bool) -> Any:
        """Return the encoder's output [B, T, D] for segments with the same padded length."""
        from ctranslate2 import StorageView

        mels = [self._features(samples, padded_frames(len(samples), whole)) for samples in segments]
        if self.device != "cpu" or len(mels) == 1:
            return self.model.encode(StorageView.from_array(np.stack(mels)))
        # One by one: on a CPU the encoder takes twice as long for a segment of a batch.
        found = [self.model.encode(StorageView.from_array(mel[None])) for mel in mels]
        return StorageView.from_array(np.concatenate([np.array(each) for each in found]))

    def _features(self, samples: Audio, frames: int) -> npt.NDArray[np.float32]:
        """Return the log-mel spectrogram [M, frames], padded with silence."""
        mel = self._mel(samples, padding=FRAME_SAMPLES)[:, : _frames(len(samples))]
        padded: npt.NDArray[np.float32] = np.pad(mel, ((0, 0), (0, frames - mel.shape[1])))
        return padded.astype(np.float32)

    def generate(
        self,
        encoded: Any,
        prompts: Sequence[Sequence[int]],
        *,
        beam_size: int = 1,
        most_tokens: int,
        begun: bool = False,
    ) -> list[Hypothesis]:
        """Return the best hypothesis for each segment.

        Args:
            encoded: the encoder's output for the segments.
            prompts: one prompt for each segment, all of the same length.
            beam_size: beams of the search; 1 is greedy.
            most_tokens: maximum number of tokens to write.
            begun: whether the prompts end with text of the segment; then the result may be empty.

        """
        outputs = self.model.generate(
            encoded,
            [list(prompt) for prompt in prompts],
            beam_size=beam_size,
            # CTranslate2 keeps at least half of max_length for the prompt.
            max_length=most_tokens + max(most_tokens, len(prompts[0]) - 1),
            suppress_blank=not begun,
            suppress_tokens=[-1],
            return_scores=True,
            return_no_speech_prob=True,
        )
        return [self._hypothesis(output, prompts[0] if begun else ()) for output in outputs]

    def _hypothesis(self, output: Any, prompt: Sequence[int]) -> Hypothesis:
        """Return the text after the prompt; CTranslate2's output repeats the text of the prompt."""
        special = (n for n, token in enumerate(reversed(prompt)) if token > self.first_special)
        tokens = output.sequences_ids[0][next(special, 0) :]
        # CTranslate2's score is the sum divided by the tokens without the end of text.
        logprob = output.scores[0] * len(tokens) / (len(tokens) + 1)
        written = tuple(token for token in tokens if token < self.first_special)
        text = self.tokenizer.decode(list(written)).strip()
        return Hypothesis(written, text, logprob, output.no_speech_prob)

    def detect_languages(self, encoded: Any) -> list[dict[str, float]]:
        """Return the probability of each language, for each segment."""
        found = self.model.detect_language(encoded)  # per segment a list of ("<|en|>", probability)
        return [{token[2:-2]: share for token, share in each} for each in found]

    def align(
        self,
        encoded: Any,
        tokens: Sequence[Sequence[int]],
        tokenizer: Any,
        lengths: Sequence[int],
    ) -> list[tuple[SpokenWord, ...]]:
        """Return the words of each segment with their times, from one more pass of the decoder.

        Args:
            encoded: the encoder's output for the segments.
            tokens: tokens of each text; a segment without tokens is left out.
            tokenizer: the tokenizer of the language, which all segments share.
            lengths: lengths of the segments in samples.

        """
        frames = [_frames(length) for length in lengths]
        aligned = self._align(tokenizer, [list(each) for each in tokens], encoded, frames)
        found = zip(aligned, lengths, tokens, strict=True)
        return [tuple(_spoken(*each)) if text else () for *each, text in found]


def padded_frames(samples: int, whole: bool) -> int:
    """Return the number of frames of a segment with the silence after it."""
    if whole:
        return WINDOW_FRAMES
    frames = _frames(samples) + SILENT_FRAMES
    return min(WINDOW_FRAMES, max(CUT_FRAMES, math.ceil(frames / FRAME_STEP) * FRAME_STEP))


def _frames(samples: int) -> int:
    return math.ceil(samples / FRAME_SAMPLES)


def _spoken(alignment: Sequence[dict[str, Any]], length: int) -> Iterator[SpokenWord]:
    """Yield the words of a segment of `length` samples; punctuation is joined to a word."""
    last: SpokenWord | None = None
    for entry in alignment:
        text = entry["word"].strip()
        if not text:
            continue
        start = min(round(float(entry["start"]) * SAMPLE_RATE), length)
        end = max(start, min(round(float(entry["end"]) * SAMPLE_RATE), length))
        if last is not None and not any(character.isalnum() for character in text):
            last = SpokenWord(last.text + text, last.start, end, last.confidence)
            continue
        if last is not None:
            yield last
        last = SpokenWord(text, start, end, min(1.0, float(entry["probability"])))
    if last is not None:
        yield last


def _unusable(folder: Path, error: Exception) -> DamagedFileError | OptionsError:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    subject, reason = f"Whisper in {folder}", f"it cannot be loaded: {text}"
    if any(name in str(error).lower() for name in ("cuda", "cublas", "cudnn")):
        remedy = "use --set asr.options.device=cpu, or install a CUDA that CTranslate2 supports"
        return OptionsError(subject, reason, remedy)
    if "compute type" in str(error).lower():
        remedy = "choose a compute_type that this device supports, or `default`"
        return OptionsError(subject, reason, remedy)
    remedy = "convert it again with ct2-transformers-converter, or download it again"
    return DamagedFileError(subject, reason, remedy)
