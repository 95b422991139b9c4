"""Accept or reject recognised texts: Whisper invents words in noise, silence and laughter.

Whisper estimates the log probability of its text (`logprob`, mean over the tokens) and the
probability that the segment has no speech (`no_speech`). Its own rule (Radford et al., "Robust
Speech Recognition via Large-Scale Weak Supervision", 2022, section 4.5: both beyond a threshold)
accepts a third of the texts that tiny.en writes for noise. The length of the text helps, since
invented text is short or repeats itself ("Thank you.", "Let's go! Let's go!"):

    evidence = logprob - no_speech + 0.1 * different tokens (at most 20)

In a cut window short answers and cries have equally little evidence. In the window of 30 s, on
which Whisper was trained, answers have more evidence, and cries do not. So a segment with a
doubtful text is decoded again in the window of 30 s.

A rejected text is dropped as a whole, with the reason, so that no voter reads invented words.
docs/asr.md has the figures, and the choice of the thresholds.
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
"""Maximum length in words of a repeated phrase; longer ones do not fit into a segment."""
FEW_WORDS: Final = 2
"""Words above `most_words_per_s` that are allowed: a segment may cut its first and last word."""
TOKEN_WEIGHT: Final = 0.1
MOST_TOKENS: Final = 20
"""Maximum number of tokens that count as evidence."""
SUSPICIOUS_LOGPROB: Final = -1.0
"""Log probability below which a segment is decoded again."""
QUIET_DB: Final = 30.0
"""Frames this far below the loud frames of a segment have no speech."""
CRIES: Final = frozenset(
    [
        *("ah", "aha", "aw", "eh", "er", "ew", "ha", "haha", "hahaha", "hehe", "hey", "hm", "hmm"),
        *("ho", "huh", "mhm", "mm", "mmm", "oh", "ooh", "oops", "ouch", "ow", "ugh", "uh", "um"),
        *("whoa", "whoo", "woo", "woohoo", "wow", "yay"),
    ]
)
"""Words that Whisper writes for laughter and cries."""


@dataclass(frozen=True, slots=True)
class Guards:
    """Thresholds, `asr.options.guards`; an extreme value switches one off (`OFF`)."""

    least_evidence: float = setting(
        -0.53, doc="evidence in a cut window below which a segment is decoded again in 30 s"
    )
    least_evidence_30s: float = setting(
        -0.65, doc="evidence in the window of 30 s below which a text is dropped"
    )
    least_cry_evidence: float = setting(
        -0.3, doc='the same in either window for a text of only "oh", "ha ha", "wow"'
    )
    least_logprob: float = setting(
        -1.0, doc="mean log probability of a token below which a text is dropped", most=0
    )
    most_compression: float = setting(
        2.4, doc="how far zlib may compress a text before it counts as a loop", least=1
    )
    most_repeats: int = setting(5, doc="how often in a row a word or phrase may come", least=1)
    most_words_per_s: float = setting(
        7.0, doc="words a second above which a text is dropped", least=1
    )
    least_stream_logprob: float = setting(
        -0.9, doc="mean log probability of a stream below which it is not English", most=0
    )
    least_tokens_per_s: float = setting(
        2.0, doc="tokens a second of speech below which a segment is decoded again in 30 s", least=0
    )

    reject: bool = setting(
        True, doc="drop doubtful texts; false: keep all, and decode only loops again in 30 s"
    )

    def lenient(self, by: float) -> Guards:
        """Return guards that accept texts with this much less evidence."""
        names = "least_evidence", "least_evidence_30s", "least_cry_evidence", "least_logprob"
        return dataclasses.replace(self, **{name: getattr(self, name) - by for name in names})


@dataclass(frozen=True, slots=True)
class Evidence:
    """Measurements of a recognised text."""

    text: str
    tokens: int
    different: int
    """Number of distinct tokens."""
    seconds: float
    """Length of the segment."""
    speech_s: float
    """Seconds of speech in the segment."""
    no_speech: float
    """Probability that the segment has no speech."""
    logprob: float
    """Mean log probability of a token."""
    whole: bool = True
    """Whether the segment was decoded in the window of 30 s."""

    @classmethod
    def of(cls, hypothesis: Hypothesis, samples: Audio, whole: bool = True) -> Evidence:
        """Return the measurements of the text of a segment."""
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
"""Thresholds that reject nothing: to measure the effect of the guards."""


def rejection(evidence: Evidence, guards: Guards) -> str:
    """Return why a text is rejected; empty if it is accepted."""
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


def needs_retry(evidence: Evidence, guards: Guards) -> bool:
    """Return whether a segment decoded in a cut window is decoded again in the window of 30 s."""
    if not guards.reject:
        return bool(impossible(evidence, guards))
    return (
        bool(rejection(evidence, guards))
        or evidence.logprob < SUSPICIOUS_LOGPROB
        or evidence.tokens < guards.least_tokens_per_s * evidence.speech_s
    )


def impossible(evidence: Evidence, guards: Guards) -> str:
    """Return why nobody can have spoken this text; empty if it is possible."""
    words = evidence.text.lower().split()
    if compression(evidence.text) > guards.most_compression or repeats(words) > guards.most_repeats:
        return "the recogniser repeated itself"
    if len(words) > guards.most_words_per_s * evidence.seconds + FEW_WORDS:
        return f"more words than fit into {evidence.seconds:.1f} s"
    return ""


def speech_seconds(samples: Audio) -> float:
    """Return the seconds of speech in a segment, by the loudness of frames of 10 ms."""
    frame = SAMPLE_RATE // 100
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame)
    if not len(frames):
        return 0.0
    loudness_db = 10 * np.log10(np.mean(np.square(frames, dtype=np.float64), axis=1) + 1e-12)
    loud = np.quantile(loudness_db, 0.95)
    return float(np.count_nonzero(loudness_db > loud - QUIET_DB)) / 100


def compression(text: str) -> float:
    """Return the factor by which zlib compresses a text."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def repeats(words: Sequence[str]) -> int:
    """Return the most repetitions in a row of one phrase of LONGEST_PHRASE words or less."""
    most = min(1, len(words))
    for size in range(1, min(LONGEST_PHRASE, len(words) // 2) + 1):
        run = 0  # words in a row, each equal to the word `size` places before it
        for i in range(size, len(words)):
            run = run + 1 if words[i] == words[i - size] else 0
            most = max(most, 1 + run // size)
    return most


def read_guards(given: Mapping[str, Any] | None) -> Guards:
    """Return the default thresholds with the changes of a profile.

    Raises:
        OptionsError: a threshold is unknown or out of range.

    """
    faults = Faults({})
    table: Any = given
    if isinstance(given, Mapping) or given is None:
        table = dataclasses.asdict(Guards()) | dict(given or {})
    made = build(Guards, table, "asr.options.guards.", faults)
    if faults.texts:
        raise OptionsError("asr.options.guards", "; ".join(faults.texts), "see docs/asr.md")
    return made
