"""Whisper's encoder and decoder in CTranslate2: samples in, hypotheses out.

Whisper was trained on windows of 30 s, most of the cost on a CPU. The encoder takes any length:
the cut window is the segment and silence behind it, at least CUT_FRAMES in all.

The silence must be zeros in the log-mel: after silent samples, which are its floor, the decoder
repeats itself (docs/asr.md has the figures).
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
"""One column of the log-mel spectrogram."""
WINDOW_FRAMES: Final = 3000
"""30 s."""
CUT_FRAMES: Final = 1000
"""10 s: with less the decoder loops more often."""
SILENT_FRAMES: Final = 100
"""Fewest behind a segment."""
PIECE: Final = 50
"""Lengths are multiples of it (.5 s), so that long segments of a batch often have the same."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What the decoder wrote."""

    tokens: tuple[int, ...]
    """Of text only."""
    text: str
    logprob: float
    """Mean over the tokens and the end of text."""
    no_speech: float
    """Probability that nobody spoke."""


class Engine:
    """One loaded model.

    Args:
        folder: of a CTranslate2 model.
        device: `auto`, `cpu` or `cuda`.
        compute_type: precision; `default` is `int8` on a CPU and the model's own elsewhere.
        threads: CPU threads; 0 lets CTranslate2 choose.

    Raises:
        DamagedFileError: CTranslate2 cannot read it.
        OptionsError: this device or precision is not available.

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
        except Exception as error:  # CUDA, CTranslate2 and tokenizers raise what they like
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
        """Return the encoder's output [B, T, D] for segments of one padded length."""
        from ctranslate2 import StorageView

        mels = [self._features(samples, padded_frames(len(samples), whole)) for samples in segments]
        return self.model.encode(StorageView.from_array(np.stack(mels)))

    def _features(self, samples: Audio, frames: int) -> npt.NDArray[np.float32]:
        """Return the log-mel spectrogram [M, frames] with the silence behind it."""
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
            encoded: of the segments.
            prompts: of one length.
            beam_size: 1 is greedy.
            most_tokens: to write.
            begun: whether the prompts end with text; then the answer may be empty.

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
        """Return what the decoder wrote after the prompt; CTranslate2 repeats the prompt's text."""
        special = (n for n, token in enumerate(reversed(prompt)) if token > self.first_special)
        tokens = output.sequences_ids[0][next(special, 0) :]
        # The score is the mean over the tokens; the end of text counts as one of them.
        logprob = output.scores[0] * len(tokens) / (len(tokens) + 1)
        said = tuple(token for token in tokens if token < self.first_special)
        text = self.tokenizer.decode(list(said)).strip()
        return Hypothesis(said, text, logprob, output.no_speech_prob)

    def detect_languages(self, encoded: Any) -> list[dict[str, float]]:
        """Return the probability of each language, for each segment."""
        found = self.model.detect_language(encoded)  # of each a list of ("<|en|>", probability)
        return [{token[2:-2]: share for token, share in each} for each in found]

    def align(
        self,
        encoded: Any,
        tokens: Sequence[Sequence[int]],
        tokenizer: Any,
        lengths: Sequence[int],
    ) -> list[tuple[SpokenWord, ...]]:
        """Return the words of each segment with their times, by one more pass of the decoder.

        Args:
            encoded: of the segments.
            tokens: of their texts; none for a segment to leave out.
            tokenizer: of their one language.
            lengths: of the segments, in samples.

        """
        frames = [_frames(length) for length in lengths]
        aligned = self._align(tokenizer, [list(each) for each in tokens], encoded, frames)
        found = zip(aligned, lengths, tokens, strict=True)
        return [tuple(_spoken(*each)) if text else () for *each, text in found]


def padded_frames(samples: int, whole: bool) -> int:
    """Return how many frames a segment has with the silence behind it."""
    if whole:
        return WINDOW_FRAMES
    frames = _frames(samples) + SILENT_FRAMES
    return min(WINDOW_FRAMES, max(CUT_FRAMES, math.ceil(frames / PIECE) * PIECE))


def _frames(samples: int) -> int:
    return math.ceil(samples / FRAME_SAMPLES)


def _spoken(alignment: Sequence[dict[str, Any]], length: int) -> Iterator[SpokenWord]:
    """Yield words within a segment of `length` samples; lone punctuation joins the word before."""
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
        remedy = "Use --set asr.options.device=cpu, or install a CUDA that CTranslate2 knows"
        return OptionsError(subject, reason, remedy)
    if "compute type" in str(error).lower():
        remedy = "Choose a compute_type that this device has, or `default`"
        return OptionsError(subject, reason, remedy)
    remedy = "Convert it again with ct2-transformers-converter, or download it again"
    return DamagedFileError(subject, reason, remedy)
