"""One PocketSphinx decoder at work on one segment, whole or as it grows.

A decoder remembers the cepstral mean, the noise floor and the best Gaussians of what it heard last.
Here each segment starts from nothing: the front end is built anew (0.1 ms), and a second decoder
that searches for nothing measures the segment's own mean (1 ms a second of audio), so that the
search can take the audio in pieces and still normalise over all that is there.

Of a segment that still goes on only what is new is searched, with the mean measured anew over all
of it so far; its level is that of its first part. On 150 turns of the synthetic podcasts in
shared/data/e2e, in parts after 1.8 s and then every second (2372 words, word error rate):

    whole                                                    38.5 %
    in parts, scaled to a peak of 0.9 in the first part      38.1 %
    ... of 0.5 (chosen)                                      37.4 %
    ... of 0.3                                               37.9 %
    ... of 0.5, mean blended with 0.5 s of the library's     37.3 %
    ... of 0.5, mean blended with 1 s of the library's       39.0 %

On the 41 clips of fleurs, ljspeech and librispeech_clean (735 words): whole 29.1 %, in parts
29.7 %, and 31.8 % with the mean of the first part alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pocketsphinx

from abhinaya.stream.asr.base import Audio, SpokenWord
from abhinaya.stream.errors import ModelError

PIECE_SAMPLES: Final = 1600
"""The decoder holds the GIL while it works: a piece of 100 ms takes at most about 30 ms, after
which the thread that sends the node's beats gets its turn."""
FRAME_SAMPLES: Final = 160
WHOLE_PEAK: Final = 0.9
"""A whole segment is scaled to this peak, so that quiet speech does not drown in 16-bit steps."""
PART_PEAK: Final = 0.5
"""The same for the first part of one that goes on: what follows may be louder, and is clipped."""
CLIPPED_PEAK: Final = 2.0
"""What is louder than this is no longer clipped: then the level was judged wrong."""
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


class FrontEnd:
    """Measures means.

    Args:
        settings: those that change the front end.

    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._decoder = decoder(_MEAN_SETTINGS | settings)

    def mean(self, pcm: bytes) -> str:
        """Give the cepstral mean over 16-bit audio, as PocketSphinx writes it."""
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, no_search=True, full_utt=True)
        mean: str = self._decoder.get_cmn(False)
        self._decoder.end_utt()
        return mean


class Search:
    """Follows one segment after the other.

    Args:
        decoder: used by nobody else.
        front_end: may be shared.

    """

    def __init__(self, decoder: Any, front_end: FrontEnd) -> None:
        self._decoder = decoder
        self._front_end = front_end
        self._open = False
        self._heard: Audio = np.zeros(0, np.float32)
        self._pcm = b""
        self._gain = 1.0
        self.said: list[str] = []
        """What its user found the segment to say so far."""

    def begin(self, samples: Audio, peak: float) -> None:
        """Forget everything; take the level from `samples`, which are not silent."""
        if self._open:
            self._open = False
            self._decoder.end_utt()
        self._decoder.reinit_feat()
        self._heard, self._pcm, self.said = samples[:0], b"", []
        self._gain = peak / loudness(samples)

    def continues(self, samples: Audio) -> bool:
        """Tell whether this is what was heard so far, or more of it, at a level that fits."""
        common = min(len(samples), len(self._heard))
        if not common or samples[:common].tobytes() != self._heard[:common].tobytes():
            return False
        return loudness(samples[common:]) * self._gain <= CLIPPED_PEAK

    def extend(self, samples: Audio) -> None:
        """Hear the segment as far as it has come."""
        new = samples[len(self._heard) :]
        if not len(new):
            return
        pcm = _pcm(new, self._gain)
        self._heard, self._pcm = samples, self._pcm + pcm
        self._decoder.set_cmn(self._front_end.mean(self._pcm))
        if not self._open:
            self._decoder.start_utt()
            self._open = True
        for start in range(0, len(pcm), 2 * PIECE_SAMPLES):
            self._decoder.process_raw(pcm[start : start + 2 * PIECE_SAMPLES])

    def end(self) -> None:
        """Find the best path through what was heard."""
        self._open = False
        self._decoder.end_utt()

    def words(self, length: int) -> Iterator[SpokenWord]:
        """Yield the words of the first `length` samples, without fillers.

        More may have been heard: a segment that outgrows the limit is cut at a pause that lies
        back. Posteriors come with the best path; until the segment has ended there are none.
        """
        if self._decoder.hyp() is None:
            return
        for segment in self._decoder.seg():
            text = segment.word.partition("(")[0].lower()
            start = segment.start_frame * FRAME_SAMPLES
            end = (segment.end_frame + 1) * FRAME_SAMPLES
            if not text or text[0] in "<[+" or start + end >= 2 * length:
                continue
            posterior = None if self._open else min(1.0, max(0.0, float(segment.prob)))
            yield SpokenWord(text, min(start, length), min(end, length), posterior)


def decoder(settings: dict[str, Any]) -> Any:
    """Start a decoder.

    Each has models of its own, 91 MB. The library would let several share a language model, which
    is 20 MB of that; but then posteriors come out a little different from those of one that has its
    own, and a result must not depend on who was free.

    Raises:
        ModelError: a setting does not fit, or a model cannot be read.

    """
    try:
        return pocketsphinx.Decoder(loglevel="FATAL", **settings)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelError(
            "PocketSphinx",
            f"does not start with {settings}: {error}",
            "check the paths of hmm, lm and dict, or leave out the options",
        ) from error


def loudness(samples: Audio) -> float:
    """Give the peak; what is no number counts as 0."""
    return float(np.abs(_clean(samples)).max(initial=0.0))


def _pcm(samples: Audio, gain: float) -> bytes:
    scaled = np.clip(_clean(samples) * gain, -1.0, 1.0) * 32767
    return bytes(scaled.astype("<i2"))


def _clean(samples: Audio) -> Audio:
    return np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
