"""Which words of an unfinished transcript are settled: local agreement of two passes.

LocalAgreement-2 (Liu, Spanakis and Niehues, "Low-Latency Sequence-to-Sequence Speech Recognition
and Translation by Partial Hypothesis Selection", Interspeech 2020; for Whisper: Machacek, Dabre and
Bojar, "Turning Whisper into Real-Time Transcription System", IJCNLP-AACL 2023): what two
consecutive hypotheses on growing audio have in common from the beginning on is taken as settled.
What follows is still open, since more audio may change it.
"""

from __future__ import annotations

from collections.abc import Sequence


def agreed(before: Sequence[str], now: Sequence[str]) -> int:
    """Count the first words that two hypotheses have in common.

    Capitals and the marks around a word do not count: a full stop comes and goes with what follows.
    """
    count = 0
    for old, new in zip(before, now, strict=False):
        if bare(old) != bare(new):
            break
        count += 1
    return count


def bare(word: str) -> str:
    """Give a word without capitals and without marks around it."""
    start, end = 0, len(word)
    while start < end and not word[start].isalnum():
        start += 1
    while end > start and not word[end - 1].isalnum():
        end -= 1
    return word[start:end].lower()
