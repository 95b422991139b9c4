"""What is known of a stream's speech: its language, held once it is sure. This is the opaque state.

A language is detected in each segment until HELD_S seconds of speech have been heard; the
probabilities are averaged by length, since a short word says little. From then on it stays.

A model that knows only English writes English for everything. What it does not know it writes with
little confidence: the mean log probability of a stream's texts tells. Measured with tiny.en, means
over 5 and 20 s of speech (quantiles .05, .5, .95 of random stretches):

                            5 s                    20 s
    read English           -.34  -.12  -.06       -.27  -.16  -.10
    calls at 8 kHz         -.80  -.36  -.19       -.74  -.37  -.30
    meetings, distant      -.79  -.49  -.13       -.87  -.51  -.24
    Polish (nEMO)         -1.54 -1.13  -.67      -1.29 -1.09  -.87
    Urdu (talk shows)     -1.67 -1.31  -.85      -1.50 -1.30 -1.07
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

HELD_S: Final = 10.0
"""Seconds of speech after which a stream's language is no longer in question."""
REMEMBERED: Final = 8
"""Languages whose probabilities are carried along."""
BACK: Final = 0.2
"""A stream that was taken for foreign is English again this much above the threshold."""
LEAST_S: Final = 4.0
"""Seconds of speech before a stream is taken for foreign."""
MEMORY_S: Final = 20.0
"""Seconds of speech that the mean goes back, so that another speaker is heard."""


class Voice(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the segments of a stream so far have said about it."""

    seconds: float = 0.0
    """Of speech."""
    languages: dict[str, float] = {}
    """Language -> seconds times its probability."""
    logprob: float = 0.0
    """Running mean log probability of its texts, weighted by seconds."""
    foreign: bool = False
    """Whether this does not seem to be English; only of a model that knows nothing else."""

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
        return msgspec.structs.replace(
            self, seconds=total, logprob=mean, foreign=total >= LEAST_S and mean < limit
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
