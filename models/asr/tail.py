"""Follow segments that go on: each part continues from the words that two passes agreed on.

LocalAgreement-2 (Liu, Spanakis and Niehues, "Low-Latency Sequence-to-Sequence Speech Recognition
and Translation by Partial Hypothesis Selection", Interspeech 2020; for Whisper: Machacek, Dabre and
Bojar, "Turning Whisper into Real-Time Transcription System", IJCNLP-AACL 2023): the words that two
consecutive hypotheses on growing audio share from the beginning are settled. More audio may change
the others.

The decoder gets the settled words as if it had written them, so it writes only what is new. The
encoder hears the segment from its start: it costs a tenth of the decoder, and a tail cut out of its
sentence is understood worse. The final transcription uses none of this.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from abhinaya.models.asr.base import Audio, Hearing

MOST_FOLLOWED: Final = 256
"""Segments that are followed at once; some never end."""
LONGEST_PHRASE: Final = 16
"""Tokens of a phrase that a decoder may repeat to the end."""
COMPARED_SAMPLES: Final = 1600
"""A part whose beginning differs from that of the part before belongs to another segment."""


@dataclass(frozen=True, slots=True)
class Tail:
    """How far a segment has been followed."""

    begins: bytes
    """Its first samples."""
    length: int
    """In samples, at the last pass."""
    settled: tuple[int, ...] = ()
    """Tokens that two passes agreed on."""
    open: tuple[int, ...] = ()
    """Tokens that the last pass wrote after them."""

    def grown(self, samples: Audio, written: Sequence[int], tokenizer: Any) -> Tail:
        """Return the state after one more pass over the segment so far.

        Args:
            samples: the segment so far.
            written: the tokens after the settled ones.
            tokenizer: of the language.

        """
        before, _ = tokenizer.split_to_word_tokens(list(self.open))
        now, tokens = tokenizer.split_to_word_tokens(list(written))
        count = sum(len(each) for each in tokens[: agreed(before, now)])
        settled = self.settled + tuple(written[:count])
        return Tail(self.begins, len(samples), settled, tuple(written[count:]))


class Tails:
    """The segments that are followed; the least recently heard is dropped first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], Tail] = OrderedDict()

    def of(self, hearing: Hearing) -> Tail:
        """Return how far a segment has been followed; a new state if it was not."""
        begins = hearing.samples[:COMPARED_SAMPLES].tobytes()
        tail = self._kept.get((hearing.stream, hearing.sequence))
        if tail is None or tail.begins != begins or tail.length > len(hearing.samples):
            return Tail(begins, 0)
        return tail

    def keep(self, hearing: Hearing, tail: Tail) -> None:
        """Remember how far a segment has been followed."""
        key = hearing.stream, hearing.sequence
        self._kept[key] = tail
        self._kept.move_to_end(key)
        if len(self._kept) > MOST_FOLLOWED:
            self._kept.popitem(last=False)

    def drop(self, stream: str, sequence: int) -> None:
        """Forget a segment."""
        self._kept.pop((stream, sequence), None)


def agreed(before: Sequence[str], now: Sequence[str]) -> int:
    """Count the first words that two hypotheses share, whatever their capitals and marks.

    A full stop comes and goes with what follows.
    """
    pairs = zip(before, now, strict=False)
    same = [bare(old) == bare(new) for old, new in pairs]
    return same.index(False) if False in same else len(same)


def bare(word: str) -> str:
    """Return a word in lower case, without the marks around it."""
    inside = [place for place, character in enumerate(word) if character.isalnum()]
    return word[inside[0] : inside[-1] + 1].lower() if inside else ""


def without_loop(tokens: Sequence[int]) -> tuple[int, ...]:
    """Return tokens up to the second time of a phrase that is said three times in a row.

    One or two tokens may be said four times, as in "no, no, no" or 5,000,000.
    """
    tokens = tuple(tokens)
    for end in range(3, len(tokens) + 1):
        for size in range(1, min(LONGEST_PHRASE, end // 3) + 1):
            times = 3 if size > 2 else 5
            start = end - times * size
            if start >= 0 and tokens[start:end] == tokens[end - size : end] * times:
                return tokens[: start + size]
    return tokens
