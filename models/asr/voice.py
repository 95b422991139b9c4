"""What is known of a stream's speech: its language, held once it is sure. This is the opaque state.

A language is detected in each segment until HELD_S seconds of speech have been heard; the
probabilities are averaged by length, since a short word says little. From then on it stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

HELD_S: Final = 10.0
"""Seconds of speech after which a stream's language is no longer in question."""
REMEMBERED: Final = 8
"""Languages whose probabilities are carried along."""
MOST_LENGTH_S: Final = 30.0


class Voice(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the segments of a stream so far have said about it."""

    seconds: float = 0.0
    """Of speech, up to HELD_S."""
    languages: dict[str, float] = {}
    """Language -> seconds times its probability."""
    logprob: float = 0.0
    """Running mean log probability of its texts, weighted by seconds."""
    foreign: bool = False
    """Whether it was said that this is not English."""

    def heard(self, seconds: float, languages: Mapping[str, float]) -> Voice:
        """Return what is known after one more segment."""
        total = self.seconds + seconds
        sums = dict(self.languages)
        for language, probability in languages.items():
            sums[language] = sums.get(language, 0.0) + seconds * probability
        best = sorted(sums, key=lambda language: (-sums[language], language))[:REMEMBERED]
        return msgspec.structs.replace(
            self, seconds=total, languages={language: sums[language] for language in best}
        )

    @property
    def held(self) -> bool:
        """Whether the language is no longer in question."""
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
    """Return what a state says; what another version wrote counts as nothing known."""
    try:
        return _DECODER.decode(state) if state else Voice()
    except msgspec.DecodeError:
        return Voice()


def write(voice: Voice) -> bytes:
    """Return the state."""
    return msgspec.msgpack.encode(voice)
