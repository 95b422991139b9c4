"""PocketSphinx with the English model in its own wheel: on any CPU, without a download.

Settings, measured on the 29 clips of fleurs, ljspeech (first 20) and librispeech_clean in
shared/data/e2e (real-time factor in CPU seconds of an AMD EPYC core per second of audio, word error
rate over 515 words):

    three passes, no limits (the library's defaults)       0.194   26.8 %
    one pass and best path, no limits                       0.138   26.6 %
    ... 6000 states and 20 word exits a frame               0.106   27.0 %
    ... 3000 states and 10 word exits a frame (chosen)      0.076   26.8 %
    ... 1500 states and 10 word exits a frame               0.062   29.9 %
    chosen, without best path (no posteriors either)        0.081   28.7 %
    chosen, without phone lookahead                         0.124   27.2 %
    chosen, every second frame scored (ds 2)                0.062   37.7 %
    chosen, ds 2 and two Gaussians a codebook (topn 2)      0.058   32.8 %
    chosen, without noise removal                           0.074   29.1 %
    chosen, lighter (5.5) language model                    0.094   27.6 %

A decoder remembers the cepstral mean, the noise floor and the best Gaussians of what it heard last.
Here each segment starts from nothing: the front end is built anew (0.1 ms), and a second decoder
that searches for nothing measures the segment's own mean first (1 ms a second of audio), so that
the search can take the audio in pieces and still normalise over the whole.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pocketsphinx

from abhinaya.stream.asr.base import Audio, Hearing, SpokenWord, Transcription
from abhinaya.stream.errors import ModelError

SETTINGS: Final[dict[str, Any]] = {
    "fwdflat": False,
    "bestpath": True,
    "maxhmmpf": 3000,
    "maxwpf": 10,
}
PIECE_SAMPLES: Final = 1600
"""The decoder holds the GIL while it works: a piece of 100 ms takes at most about 30 ms, after
which the thread that sends the node's beats gets its turn."""
FRAME_SAMPLES: Final = 160
PEAK: Final = 0.9
"""Every segment is scaled to this peak, so that quiet speech does not drown in 16-bit steps."""
SILENT_PEAK: Final = 1e-4
"""Below three steps of 16-bit audio there is nothing to scale."""
_MEAN_SETTINGS: Final[dict[str, Any]] = {
    "lm": None,
    "dict": None,
    "keyphrase": "nothing",
    "ds": 50,
    "topn": 1,
    "pl_window": 0,
}
"""A decoder with a front end and as good as no search."""


class Sphinx:
    """Transcribes one segment at a time into lower-case words without punctuation.

    Args:
        language: what the model speaks; the one that comes along speaks English.
        decoder: settings of PocketSphinx on top of SETTINGS, for example `hmm`, `lm` and `dict`
            for a model of one's own.

    Raises:
        ModelError: a setting is unknown or does not fit, or a model cannot be read.

    """

    model: Final = "pocketsphinx"
    licence: Final = "BSD-2-Clause"
    noncommercial: Final = False
    context_turns: Final = 0
    incremental: Final = False

    def __init__(self, language: str = "en", **decoder: Any) -> None:
        self._language = language
        self.version = importlib.metadata.version("pocketsphinx")
        known = list(pocketsphinx.Config())
        for name in decoder:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                raise ModelError(
                    f"asr.options.{name}",
                    "is no setting of PocketSphinx",
                    f"did you mean {near[0]!r}?" if near else "see its config parameters",
                )
        self._decoder = _decoder(SETTINGS | decoder)
        own = {key: decoder[key] for key in ("hmm", "featparams") if key in decoder}
        self._front_end = _decoder(_MEAN_SETTINGS | own)

    def transcribe(self, batch: Sequence[Hearing]) -> list[Transcription]:
        """Transcribe each segment on its own."""
        return [self._one(hearing.samples) for hearing in batch]

    def forget(self, stream: str, sequence: int) -> None:
        """Do nothing: nothing is kept."""

    def _one(self, samples: Audio) -> Transcription:
        pcm = _pcm(samples)
        if not pcm:
            return Transcription("", language=self._language, reason="silence")
        self._decode(pcm)
        words = tuple(_words(self._decoder, len(samples)))
        if not words:
            return Transcription("", language=self._language, reason="no words recognised")
        given = [word.confidence for word in words if word.confidence is not None]
        return Transcription(
            text=" ".join(word.text for word in words),
            words=words,
            confidence=math.fsum(given) / len(given) if given else None,
            language=self._language,
        )

    def _decode(self, pcm: bytes) -> None:
        mean = self._mean(pcm)
        decoder = self._decoder
        decoder.reinit_feat()
        decoder.set_cmn(mean)
        decoder.start_utt()
        for start in range(0, len(pcm), 2 * PIECE_SAMPLES):
            decoder.process_raw(pcm[start : start + 2 * PIECE_SAMPLES])
        decoder.end_utt()

    def _mean(self, pcm: bytes) -> str:
        """Give the cepstral mean over the whole segment, as PocketSphinx writes it."""
        front_end = self._front_end
        front_end.reinit_feat()
        front_end.start_utt()
        front_end.process_raw(pcm, no_search=True, full_utt=True)
        mean: str = front_end.get_cmn(False)
        front_end.end_utt()
        return mean


def _decoder(settings: dict[str, Any]) -> Any:
    try:
        return pocketsphinx.Decoder(loglevel="FATAL", **settings)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelError(
            "PocketSphinx",
            f"does not start with {settings}: {error}",
            "check the paths of hmm, lm and dict, or leave out the options",
        ) from error


def _pcm(samples: Audio) -> bytes:
    """Give 16-bit audio at a fixed peak; nothing for silence. What is no number counts as 0."""
    clean = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    peak = float(np.abs(clean).max(initial=0.0))
    if peak < SILENT_PEAK:
        return b""
    return (clean * (PEAK / peak * 32767)).astype("<i2").tobytes()


def _words(decoder: Any, length: int) -> Iterator[SpokenWord]:
    """Yield the words of the best path without fillers; `length` is the segment's, in samples."""
    if decoder.hyp() is None:
        return
    for segment in decoder.seg():
        text = segment.word.partition("(")[0].lower()
        if not text or text[0] in "<[+":
            continue
        yield SpokenWord(
            text=text,
            start=min(segment.start_frame * FRAME_SAMPLES, length),
            end=min((segment.end_frame + 1) * FRAME_SAMPLES, length),
            confidence=min(1.0, max(0.0, float(segment.prob))),
        )
