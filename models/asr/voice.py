"""The transcriber's state of a stream: the language, or whether it seems to be English.

The language is detected in each segment of the first HELD_S seconds of speech. The probabilities
are averaged, weighted by length, since short segments are less certain. Then the language is fixed.

An English-only model writes English for speech in any language, with a low probability if it is
another language. So the mean log probability of a stream's texts is compared with a threshold
(figures in docs/asr.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

HELD_S: Final = 10.0
"""Seconds of speech after which a stream's language is fixed."""
REMEMBERED: Final = 8
"""Maximum number of languages in the state."""
HYSTERESIS: Final = 0.2
"""A foreign stream counts as English again this much above the threshold."""
LEAST_S: Final = 4.0
"""Seconds of speech before a stream may count as foreign."""
MEMORY_S: Final = 20.0
"""Seconds of speech in the running mean; it is limited because the speaker may change."""


class Voice(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The state of a stream."""

    seconds: float = 0.0
    """Seconds of speech."""
    languages: dict[str, float] = {}
    """Language -> sum over the segments of seconds times probability."""
    logprob: float = 0.0
    """Running mean log probability of the texts, weighted by seconds."""
    foreign: bool = False
    """Whether the stream does not seem to be English; only for English-only models."""

    def after_segment(self, seconds: float, languages: Mapping[str, float]) -> Voice:
        """Return the state after one more segment with these language probabilities."""
        sums = Counter(self.languages)
        sums.update({each: seconds * share for each, share in languages.items()})
        best = sorted(sums.items(), key=lambda item: (-item[1], item[0]))[:REMEMBERED]
        return replace(self, seconds=self.seconds + seconds, languages=dict(best))

    def after_text(self, seconds: float, logprob: float, least: float) -> Voice:
        """Return the state after one more text of an English-only model.

        Args:
            seconds: seconds of speech.
            logprob: mean log probability of the text.
            least: mean log probability below which the stream counts as foreign.

        """
        total = min(self.seconds + seconds, MEMORY_S)
        mean = self.logprob + (logprob - self.logprob) * seconds / total if total else 0.0
        limit = least + HYSTERESIS if self.foreign else least
        foreign = total >= LEAST_S and mean < limit
        return replace(self, seconds=total, logprob=mean, foreign=foreign)

    @property
    def held(self) -> bool:
        """Whether the language is fixed."""
        return self.seconds >= HELD_S

    @property
    def language(self) -> str:
        """The most probable language; empty before the first detection."""
        return max(self.languages, key=lambda each: self.languages[each], default="")

    @property
    def probability(self) -> float | None:
        """Mean probability of that language, weighted by seconds."""
        if not self.languages or not self.seconds:
            return None
        return min(1.0, self.languages[self.language] / self.seconds)


_DECODER: Final = msgspec.msgpack.Decoder(Voice)


def read(state: bytes) -> Voice:
    """Return the decoded state; a new one if `state` is from another version."""
    try:
        return _DECODER.decode(state) if state else Voice()
    except msgspec.DecodeError:
        return Voice()


def write(voice: Voice) -> bytes:
    """Return the encoded state."""
    return msgspec.msgpack.encode(voice)
