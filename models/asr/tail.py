"""Transcribe partials: each one continues from the words on which two passes agreed.

LocalAgreement-2 (Liu, Spanakis and Niehues, "Low-Latency Sequence-to-Sequence Speech Recognition
and Translation by Partial Hypothesis Selection", Interspeech 2020; for Whisper: Machacek, Dabre and
Bojar, "Turning Whisper into Real-Time Transcription System", IJCNLP-AACL 2023): two consecutive
hypotheses on growing audio are compared, and the first words that both share are settled. More
audio may change the other words.

The settled words are part of the decoder's prompt, so the decoder writes only the words after them.
The encoder always gets the segment from its start: it costs a tenth of the decoder, and audio
without the start of its sentence gives more errors. Final transcriptions do not use this module.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from abhinaya.models.asr.base import Audio, Hearing

MOST_FOLLOWED: Final = 256
"""Maximum number of segments in memory; for some no final request comes."""
LONGEST_PHRASE: Final = 16
"""Maximum length in tokens of a phrase that is recognised as a loop."""
COMPARED_SAMPLES: Final = 1600
"""If these first samples of two partials differ, the partials belong to different segments."""


@dataclass(frozen=True, slots=True)
class Tail:
    """Tokens of a segment after its latest partial."""

    begins: bytes
    """The first samples of the segment."""
    length: int
    """Length of the latest partial in samples."""
    settled: tuple[int, ...] = ()
    """Tokens on which two passes agreed."""
    open: tuple[int, ...] = ()
    """Tokens that the latest pass wrote after the settled ones."""

    def grown(self, samples: Audio, written: Sequence[int], tokenizer: Any) -> Tail:
        """Return the tail after one more pass.

        Args:
            samples: the partial.
            written: the tokens that the pass wrote after the settled ones.
            tokenizer: the tokenizer of the language.

        """
        before, _ = tokenizer.split_to_word_tokens(list(self.open))
        now, tokens = tokenizer.split_to_word_tokens(list(written))
        count = sum(len(each) for each in tokens[: agreed(before, now)])
        settled = self.settled + tuple(written[:count])
        return Tail(self.begins, len(samples), settled, tuple(written[count:]))


class Tails:
    """Memory of segments with partials; the least recently used one is dropped first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], Tail] = OrderedDict()

    def of(self, hearing: Hearing) -> Tail:
        """Return the tail of a segment; an empty one for a new segment."""
        begins = hearing.samples[:COMPARED_SAMPLES].tobytes()
        tail = self._kept.get((hearing.stream, hearing.sequence))
        if tail is None or tail.begins != begins or tail.length > len(hearing.samples):
            return Tail(begins, 0)
        return tail

    def keep(self, hearing: Hearing, tail: Tail) -> None:
        """Store the tail of a segment."""
        key = hearing.stream, hearing.sequence
        self._kept[key] = tail
        self._kept.move_to_end(key)
        if len(self._kept) > MOST_FOLLOWED:
            self._kept.popitem(last=False)

    def drop(self, stream: str, sequence: int) -> None:
        """Delete the tail of a segment."""
        self._kept.pop((stream, sequence), None)


def agreed(before: Sequence[str], now: Sequence[str]) -> int:
    """Return how many first words two hypotheses share.

    Capitals and punctuation are ignored: a full stop may disappear when more words follow.
    """
    pairs = zip(before, now, strict=False)
    same = [bare(old) == bare(new) for old, new in pairs]
    return same.index(False) if False in same else len(same)


def bare(word: str) -> str:
    """Return a word in lower case, without the punctuation around it."""
    inside = [place for place, character in enumerate(word) if character.isalnum()]
    return word[inside[0] : inside[-1] + 1].lower() if inside else ""


def without_loop(tokens: Sequence[int]) -> tuple[int, ...]:
    """Return the tokens; of a phrase that comes three times in a row, only the first remains.

    Tokens after the loop are dropped too. Phrases of one or two tokens may come four times in a
    row, as in "no, no, no" or 5,000,000.
    """
    tokens = tuple(tokens)
    for end in range(3, len(tokens) + 1):
        for size in range(1, min(LONGEST_PHRASE, end // 3) + 1):
            times = 3 if size > 2 else 5
            start = end - times * size
            if start >= 0 and tokens[start:end] == tokens[end - size : end] * times:
                return tokens[: start + size]
    return tokens
