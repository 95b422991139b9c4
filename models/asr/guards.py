"""Decide which texts to believe: Whisper makes up words for noise, silence and laughter.

Whisper says how likely its text is (`logprob`, mean over the tokens) and how likely it is that
nobody spoke (`no_speech`). Its own rule (Radford et al., "Robust Speech Recognition via Large-Scale
Weak Supervision", 2022, section 4.5: both beyond a threshold) believes a third of what tiny.en
hears in noise. Both together with the length of the text tell more, since invented text is short or
repeats itself ("Thank you.", "Let's go! Let's go!"):

    evidence = logprob - no_speech + 0.1 * different tokens (at most 20)

A short answer in a cut window has as little evidence as a cry has, but heard in the 30 s that
Whisper was trained on it has more, and a cry has not: so a text in doubt is heard again there.

A text is dropped as a whole, with the reason, so that nobody votes on words that nobody said.
docs/asr.md has the figures, and how the thresholds were chosen.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from abhinaya.models.asr.base import Audio
from abhinaya.models.asr.engine import Hypothesis
from abhinaya.models.asr.tail import bare
from abhinaya.models.base import SAMPLE_RATE
from abhinaya.models.errors import OptionsError
from abhinaya.models.fields import Faults, build, setting

LONGEST_PHRASE: Final = 8
"""In words: a loop of longer ones does not fit into a segment often enough."""
FEW_WORDS: Final = 2
"""A short segment may cut its first and last word: so many words more do not make it hurried."""
TOKEN_WEIGHT: Final = 0.1
MOST_TOKENS: Final = 20
"""More tokens than these do not make a text more likely."""
SUSPICIOUS_LOGPROB: Final = -1.0
"""Below it a segment is heard again."""
QUIET_DB: Final = 30.0
"""Frames that are so far below the loud ones of a segment hold no speech."""
CRIES: Final = frozenset(
    [
        *("ah", "aha", "aw", "eh", "er", "ew", "ha", "haha", "hahaha", "hehe", "hey", "hm", "hmm"),
        *("ho", "huh", "mhm", "mm", "mmm", "oh", "ooh", "oops", "ouch", "ow", "ugh", "uh", "um"),
        *("whoa", "whoo", "woo", "woohoo", "wow", "yay"),
    ]
)
"""Whisper writes laughter and cries so."""


@dataclass(frozen=True, slots=True)
class Guards:
    """Thresholds, `asr.options.guards`; each can be set out of reach."""

    least_evidence: float = setting(
        -0.53, doc="evidence in a cut window below which a segment is heard again in 30 s"
    )
    least_evidence_30s: float = setting(
        -0.65, doc="evidence in the window of 30 s below which a text is dropped"
    )
    least_cry_evidence: float = setting(
        -0.3, doc='the same in either window for a text of nothing but "oh", "ha ha", "wow"'
    )
    least_logprob: float = setting(
        -1.0, doc="mean log probability of a token below which a text is dropped", most=0
    )
    most_compression: float = setting(
        2.4, doc="how far zlib may compress a text before it counts as a loop", least=1
    )
    most_repeats: int = setting(5, doc="how often in a row a word or phrase may be said", least=1)
    most_words_per_s: float = setting(
        7.0, doc="words a second that someone can say at most", least=1
    )
    least_stream_logprob: float = setting(
        -0.9, doc="mean over a stream below which it is not English", most=0
    )
    least_tokens_per_s: float = setting(
        2.0, doc="tokens a second of speech below which a segment is heard again in 30 s", least=0
    )

    def lenient(self, by: float) -> Guards:
        """Return guards that believe texts with so much less evidence."""
        names = "least_evidence", "least_evidence_30s", "least_cry_evidence", "least_logprob"
        return dataclasses.replace(self, **{name: getattr(self, name) - by for name in names})


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a recognised text."""

    text: str
    tokens: int
    different: int
    """Tokens without repeated ones."""
    seconds: float
    """Length of the segment."""
    speech_s: float
    """How long somebody speaks in it."""
    no_speech: float
    """Probability that nobody speaks."""
    logprob: float
    """Mean over the tokens."""
    whole: bool = True
    """Whether it was heard in the window of 30 s."""

    @classmethod
    def of(cls, hypothesis: Hypothesis, samples: Audio, whole: bool = True) -> Evidence:
        """Return what is known of the text of a segment."""
        return cls(
            hypothesis.text,
            len(hypothesis.tokens),
            len(set(hypothesis.tokens)),
            len(samples) / SAMPLE_RATE,
            speech_seconds(samples),
            hypothesis.no_speech,
            hypothesis.logprob,
            whole,
        )

    @property
    def score(self) -> float:
        """The evidence for the text."""
        return self.logprob - self.no_speech + TOKEN_WEIGHT * min(self.different, MOST_TOKENS)


OFF: Final[Mapping[str, float]] = {
    "least_evidence": -1e9,
    "least_evidence_30s": -1e9,
    "least_cry_evidence": -1e9,
    "least_logprob": -1e9,
    "least_stream_logprob": -1e9,
    "most_compression": 1e9,
    "most_repeats": 10**9,
    "most_words_per_s": 1e9,
}
"""Thresholds that nothing is beyond: to measure what the others drop."""


def doubt(evidence: Evidence, guards: Guards) -> str:
    """Return why a text is not believed; empty if it is."""
    words = {bare(word) for word in evidence.text.split()} - {""}
    if not words:
        return "no words recognised"
    if reason := impossible(evidence, guards):
        return reason
    if evidence.logprob < guards.least_logprob:
        return f"not understood (log probability {evidence.logprob:.2f})"
    least = guards.least_evidence_30s if evidence.whole else guards.least_evidence
    if evidence.score < (guards.least_cry_evidence if words <= CRIES else least):
        return f"hardly speech (evidence {evidence.score:.2f} for the words)"
    return ""


def in_doubt(evidence: Evidence, guards: Guards) -> bool:
    """Return whether a text heard in a cut window should be heard again in the whole one."""
    return (
        bool(doubt(evidence, guards))
        or evidence.logprob < SUSPICIOUS_LOGPROB
        or evidence.tokens < guards.least_tokens_per_s * evidence.speech_s
    )


def impossible(evidence: Evidence, guards: Guards) -> str:
    """Return why nobody can have said this; empty if somebody can."""
    words = evidence.text.lower().split()
    if compression(evidence.text) > guards.most_compression or repeats(words) > guards.most_repeats:
        return "the recogniser repeated itself"
    if len(words) > guards.most_words_per_s * evidence.seconds + FEW_WORDS:
        return f"more words than fit into {evidence.seconds:.1f} s"
    return ""


def speech_seconds(samples: Audio) -> float:
    """Return how long somebody speaks in a segment, by its loudness in frames of 10 ms."""
    frame = SAMPLE_RATE // 100
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame)
    if not len(frames):
        return 0.0
    loudness_db = 10 * np.log10(np.mean(np.square(frames, dtype=np.float64), axis=1) + 1e-12)
    loud = np.quantile(loudness_db, 0.95)
    return float(np.count_nonzero(loudness_db > loud - QUIET_DB)) / 100


def compression(text: str) -> float:
    """Return how many times smaller zlib makes a text."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def repeats(words: Sequence[str]) -> int:
    """Return how often in a row the most repeated phrase (at most LONGEST_PHRASE words) is said."""
    most = min(1, len(words))
    for size in range(1, min(LONGEST_PHRASE, len(words) // 2) + 1):
        run = 0  # of words that equal the one `size` before
        for i in range(size, len(words)):
            run = run + 1 if words[i] == words[i - size] else 0
            most = max(most, 1 + run // size)
    return most


def read_guards(given: Mapping[str, Any] | None) -> Guards:
    """Return the thresholds, with those that a profile changes.

    Raises:
        OptionsError: names every threshold that is unknown or out of range.

    """
    faults = Faults({})
    table: Any = given
    if isinstance(given, Mapping) or given is None:
        table = dataclasses.asdict(Guards()) | dict(given or {})
    made = build(Guards, table, "asr.options.guards.", faults)
    if faults.texts:
        raise OptionsError("asr.options.guards", "; ".join(faults.texts), "See docs/asr.md")
    return made
