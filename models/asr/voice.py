"""The transcriber's state of a stream: its language, or whether it seems to be English.

The language is detected in each segment for the first HELD_S seconds of speech; the probabilities
are averaged by length, since a short word says little. Then it is held.

A model that knows only English writes English for everything, other languages with little
confidence: the mean log probability of a stream's texts shows it (figures in docs/asr.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

HELD_S: Final = 10.0
"""Seconds of speech after which a stream's language is held."""
REMEMBERED: Final = 8
"""Languages whose probabilities are kept."""
BACK: Final = 0.2
"""A stream that was taken for foreign is English again this much above the threshold."""
LEAST_S: Final = 4.0
"""Seconds of speech before a stream is taken for foreign."""
MEMORY_S: Final = 20.0
"""Seconds of speech that the mean goes back: the speaker may change."""


class Voice(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is known of a stream."""

    seconds: float = 0.0
    """Of speech."""
    languages: dict[str, float] = {}
    """Language -> seconds times its probability."""
    logprob: float = 0.0
    """Running mean log probability of its texts, weighted by seconds."""
    foreign: bool = False
    """Whether it does not seem to be English; only for English models."""

    def heard(self, seconds: float, languages: Mapping[str, float]) -> Voice:
        """Return what is known after one more segment."""
        sums = Counter(self.languages)
        sums.update({each: seconds * share for each, share in languages.items()})
        best = sorted(sums.items(), key=lambda item: (-item[1], item[0]))[:REMEMBERED]
        return replace(self, seconds=self.seconds + seconds, languages=dict(best))

    def understood(self, seconds: float, logprob: float, least: float) -> Voice:
        """Return what is known after one more text in English.

        Args:
            seconds: of speech.
            logprob: mean log probability of the text.
            least: mean over the stream below which this is another language.

        """
        total = min(self.seconds + seconds, MEMORY_S)
        mean = self.logprob + (logprob - self.logprob) * seconds / total if total else 0.0
        limit = least + BACK if self.foreign else least
        foreign = total >= LEAST_S and mean < limit
        return replace(self, seconds=total, logprob=mean, foreign=foreign)

    @property
    def held(self) -> bool:
        """Whether the language is held."""
        return self.seconds >= HELD_S

    @property
    def language(self) -> str:
        """The likeliest language; empty before anything was heard."""
        return max(self.languages, key=lambda each: self.languages[each], default="")

    @property
    def probability(self) -> float | None:
        """How probable that language was, averaged over what was heard."""
        if not self.languages or not self.seconds:
            return None
        return min(1.0, self.languages[self.language] / self.seconds)


_DECODER: Final = msgspec.msgpack.Decoder(Voice)


def read(state: bytes) -> Voice:
    """Return the state; one of another version counts as none."""
    try:
        return _DECODER.decode(state) if state else Voice()
    except msgspec.DecodeError:
        return Voice()


def write(voice: Voice) -> bytes:
    """Return the state as bytes."""
    return msgspec.msgpack.encode(voice)
