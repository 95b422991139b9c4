"""Segments that still go on: each part continues from the words that two passes agreed on.

The decoder is given the agreed words as what it has already written, so that it writes only what
came since. The encoder hears the segment from its start: it costs a tenth of the decoder, and a
tail cut out of its sentence is understood worse. The final transcription builds on none of this.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from abhinaya.models.asr.agreement import agreed
from abhinaya.models.asr.base import Audio, Hearing

MOST_FOLLOWED: Final = 256
"""Segments that are followed at once: of some the end never comes."""
LONGEST_PHRASE: Final = 16
"""Tokens of a phrase that a decoder may repeat to the end."""
COMPARED_SAMPLES: Final = 1600
"""A part that begins otherwise than the one before is of another segment."""


@dataclass(frozen=True, slots=True)
class Tail:
    """How far a segment has been followed."""

    begins: bytes
    """Its first samples."""
    length: int
    """In samples, when it was last heard."""
    settled: tuple[int, ...] = ()
    """Tokens that two passes agreed on."""
    open: tuple[int, ...] = ()
    """What the last pass wrote after them."""

    def grown(self, samples: Audio, written: Sequence[int], tokenizer: Any) -> Tail:
        """Return what is known after one more pass.

        Args:
            samples: the segment so far.
            written: the tokens after the settled ones.
            tokenizer: of the language.

        """
        before, _ = tokenizer.split_to_word_tokens(list(self.open))
        now, tokens = tokenizer.split_to_word_tokens(list(written))
        count = sum(len(each) for each in tokens[: agreed(before, now)])
        return Tail(
            self.begins,
            len(samples),
            self.settled + tuple(written[:count]),
            tuple(written[count:]),
        )


class Tails:
    """The segments that are followed, the least recently heard dropped first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], Tail] = OrderedDict()

    def of(self, hearing: Hearing) -> Tail:
        """Return how far a segment has been followed; a new one from its start."""
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


def without_loop(tokens: Sequence[int]) -> tuple[int, ...]:
    """Return tokens up to the second time of a phrase that is said three times in a row.

    One or two tokens may be said four times: in "no, no, no" or 5,000,000 nothing is wrong.
    """
    tokens = tuple(tokens)
    for end in range(3, len(tokens) + 1):
        for size in range(1, min(LONGEST_PHRASE, end // 3) + 1):
            times = 3 if size > 2 else 5
            start = end - times * size
            if start >= 0 and tokens[start:end] == tokens[end - size : end] * times:
                return tokens[: start + size]
    return tokens
