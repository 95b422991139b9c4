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

A segment that still goes on keeps a decoder (`sphinx_search.py`), so that after the end of speech
only the last second is left to search.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pocketsphinx

from abhinaya.stream.asr.agreement import agreed
from abhinaya.stream.asr.base import Audio, Hearing, SpokenWord, Transcription
from abhinaya.stream.asr.guards import SPHINX, Evidence, doubt, read_guards
from abhinaya.stream.asr.pool import Pool
from abhinaya.stream.asr.sphinx_search import (
    PART_PEAK,
    SILENT_PEAK,
    WHOLE_PEAK,
    FrontEnd,
    Search,
    decoder,
    loudness,
)
from abhinaya.stream.clock import to_seconds
from abhinaya.stream.errors import ModelError

SETTINGS: Final[dict[str, Any]] = {
    "fwdflat": False,
    "bestpath": True,
    "maxhmmpf": 3000,
    "maxwpf": 10,
}
REMEDIES: Final = {
    "hotwords": "give an lm and dict of your own that hold the words, or use faster-whisper",
    "previous_text": "leave it out, or use faster-whisper: this language model sees three words",
}
"""For options that other transcribers have."""
MOST_PARTIALS: Final = 64


class Sphinx:
    """Transcribes one segment at a time into lower-case words without punctuation.

    Args:
        language: what the model speaks; the one that comes along speaks English.
        partials: how many segments it follows at once while they go on, so that their text is ready
            sooner after the end of speech; the second and each further one needs a decoder of its
            own (91 MB). What is beyond is transcribed when it is over.
        guards: thresholds of what is not believed (`guards.py`) that are not to be SPHINX's.
        settings: of PocketSphinx, on top of SETTINGS, for example `hmm`, `lm` and `dict` for a
            model of one's own.

    Raises:
        ModelError: a setting is unknown or does not fit, or a model cannot be read.

    """

    model: Final = "pocketsphinx"
    licence: Final = "BSD-2-Clause"
    noncommercial: Final = False
    context_turns: Final = 0

    def __init__(
        self,
        language: str = "en",
        partials: int = 4,
        guards: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        _check(partials, settings)
        self._language = language
        self._guards = read_guards(SPHINX, guards)
        self.version = importlib.metadata.version("pocketsphinx")
        self.incremental, self.stateful = partials > 0, False
        own = SETTINGS | settings
        front_end = FrontEnd({k: settings[k] for k in ("hmm", "featparams") if k in settings})
        first = Search(decoder(own), front_end)
        self._searches = Pool(first, lambda: Search(decoder(own), front_end), partials)

    def transcribe(self, batch: Sequence[Hearing]) -> list[Transcription]:
        """Transcribe each segment on its own."""
        return [self._final(heard) if heard.final else self._part(heard) for heard in batch]

    def forget(self, stream: str, sequence: int) -> None:
        """Let another segment have the decoder."""
        self._searches.take_back((stream, sequence))

    def _part(self, heard: Hearing) -> Transcription:
        if loudness(heard.samples) < SILENT_PEAK:
            return self._nothing("silence")
        now, key = time.monotonic(), (heard.stream, heard.sequence)
        search = self._searches.find(now, key)
        known = search is not None and search.continues(heard.samples)
        search = search or self._searches.lend(now, key)
        if search is None:
            return self._nothing("too many speak at once to follow everybody")
        try:
            if not known:
                search.begin(heard.samples, PART_PEAK)
            search.extend(heard.samples)
        except RuntimeError:  # the next part begins anew
            self._searches.take_back(key)
            raise
        words = tuple(search.words(len(heard.samples)))
        before, search.said = search.said, [word.text for word in words]
        return self._believed(words, heard.samples, agreed(before, search.said))

    def _final(self, heard: Hearing) -> Transcription:
        if loudness(heard.samples) < SILENT_PEAK:
            self.forget(heard.stream, heard.sequence)
            return self._nothing("silence")
        search = self._searches.find(time.monotonic(), (heard.stream, heard.sequence))
        if search is None or not search.continues(heard.samples):
            search = self._searches.spare()
            search.begin(heard.samples, WHOLE_PEAK)
        try:
            search.extend(heard.samples)
            search.end()
            return self._believed(tuple(search.words(len(heard.samples))), heard.samples, 0)
        finally:
            self.forget(heard.stream, heard.sequence)

    def _believed(
        self, words: tuple[SpokenWord, ...], samples: Audio, stable: int
    ) -> Transcription:
        """Give the words, unless there are none or they are doubtful."""
        if not words:
            return self._nothing("no words recognised")
        given = [word.confidence for word in words if word.confidence is not None]
        confidence = math.fsum(given) / len(given) if given else None
        text = " ".join(word.text for word in words)
        spoken_s = to_seconds(sum(word.end - word.start for word in words))
        evidence = Evidence(
            text, to_seconds(len(samples)), confidence=confidence, spoken_s=spoken_s
        )
        if reason := doubt(evidence, self._guards):
            return self._nothing(reason)
        return Transcription(text, words, confidence, self._language, stable=stable)

    def _nothing(self, reason: str) -> Transcription:
        return Transcription("", language=self._language, reason=reason)


def _check(partials: int, settings: Mapping[str, Any]) -> None:
    """Find options that are none.

    Raises:
        ModelError: there is one.

    """
    if not isinstance(partials, int) or not 0 <= partials <= MOST_PARTIALS:
        raise ModelError(
            f"asr.options.partials = {partials!r}",
            "is no number of decoders",
            f"give 0 to {MOST_PARTIALS}",
        )
    known = ["language", "partials", "guards", *pocketsphinx.Config()]
    for name in settings:
        if name in REMEDIES:
            reason = "is nothing that PocketSphinx can do"
            raise ModelError(f"asr.options.{name}", reason, REMEDIES[name])
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise ModelError(
                f"asr.options.{name}",
                "is no setting of PocketSphinx",
                f"did you mean {close[0]!r}?" if close else "see its config parameters",
            )
