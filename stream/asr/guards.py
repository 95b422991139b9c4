"""What is not believed: text that a recogniser makes up for noise, silence and bursts.

Every recogniser of words hears words in everything; users of live transcription complain of that
more than of most else. The rules are Whisper's own (Radford et al., "Robust Speech Recognition via
Large-Scale Weak Supervision", 2022, section 4.5: no speech with a low log probability, and the
compression ratio), and some that need no particular model: a phrase that repeats itself, more words
than anyone can say in the time, and a low confidence.

For PocketSphinx, measured on one pass over shared/data (what passes the voice activity detection,
or whole clips; percent of the texts that a rule drops):

                                   noise  bursts |  calls  RAVDESS  AMI  read  LibriSpeech
    texts, after voice activity       24     191 |     98      116   63    46           77
    confidence below 0.2              29      33 |      2        0   14     0            1
    below 7 letters a second          21      27 |      7        0    0     0            0
    either (chosen)                   46      52 |      8        0   14     0            1
    below 8 letters or 0.25           58      62 |     10        4   16     0            1
    texts, whole clips               337     229 |      -      150    -     -          144
    either                            84      65 |      -        7    -     -            0

Noise are the clips of shared/data/noise, bursts those of emogator: cries and laughter, no words.
What is dropped of the calls (8 kHz) and of AMI (a distant microphone) is speech, but hardly what
was said.

A text is dropped as a whole, with the reason, so that nobody votes on words that nobody said.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from abhinaya.models.fields import Faults, build, setting
from abhinaya.stream.errors import ModelError

LONGEST_PHRASE: Final = 8
"""In words: a loop of longer ones does not fit into a segment often enough."""
FEW_WORDS: Final = 2
"""Bounds of what a segment starts or ends with may make a short one look hurried by this much."""


@dataclass(frozen=True, slots=True)
class Guards:
    """Thresholds, `asr.options.guards`; each can be set out of reach."""

    no_speech: float = setting(
        0.6,
        doc="probability of no speech above which an improbable text is dropped",
        least=0,
        most=1,
    )
    least_logprob: float = setting(
        -1.0, doc="mean log probability of a token below which a text is improbable", most=0
    )
    least_confidence: float = setting(
        0.0, doc="confidence below which a text is dropped", least=0, most=1
    )
    least_letters_per_s: float = setting(
        0.0,
        doc="letters a second of its words below which a text is dropped: words are drawn out to "
        "fit what is none",
        least=0,
    )
    most_compression: float = setting(
        2.4, doc="how far zlib may compress a text before it counts as a loop", least=1
    )
    most_repeats: int = setting(5, doc="how often in a row a word or phrase may be said", least=1)
    most_words_per_s: float = setting(
        7.0, doc="words a second that someone can say at most", least=1
    )


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a text that was recognised."""

    text: str
    seconds: float
    """Length of its segment."""
    no_speech: float | None = None
    """Probability that nobody spoke."""
    logprob: float | None = None
    """Mean over the tokens."""
    confidence: float | None = None
    spoken_s: float | None = None
    """How long its words take together."""


SPHINX: Final = Guards(least_confidence=0.2, least_letters_per_s=7.0)
WHISPER: Final = Guards()
OFF: Final[Mapping[str, float]] = {
    "no_speech": 1.0,
    "least_confidence": 0.0,
    "least_letters_per_s": 0.0,
    "most_compression": 1e9,
    "most_repeats": 10**9,
    "most_words_per_s": 1e9,
}
"""Thresholds that nothing is beyond: to measure what the others drop."""


def doubt(evidence: Evidence, guards: Guards) -> str:
    """Say why a text should not be believed; nothing if it should."""
    words = evidence.text.lower().split()
    if _improbable(evidence, guards):
        return f"no speech (probability {evidence.no_speech:.2f})"
    if compression(evidence.text) > guards.most_compression:
        return "the recogniser repeated itself"
    if repeats(words) > guards.most_repeats:
        return "the recogniser repeated itself"
    if len(words) > guards.most_words_per_s * evidence.seconds + FEW_WORDS:
        return f"more words than fit into {evidence.seconds:.1f} s"
    if evidence.confidence is not None and evidence.confidence < guards.least_confidence:
        return f"low confidence ({evidence.confidence:.2f})"
    if _drawn_out(evidence, guards):
        return "words too slow for speech"
    return ""


def _improbable(evidence: Evidence, guards: Guards) -> bool:
    if evidence.no_speech is None or evidence.logprob is None:
        return False
    return evidence.no_speech > guards.no_speech and evidence.logprob < guards.least_logprob


def _drawn_out(evidence: Evidence, guards: Guards) -> bool:
    if evidence.spoken_s is None:
        return False
    letters = sum(character.isalnum() for character in evidence.text)
    return letters < guards.least_letters_per_s * evidence.spoken_s


def compression(text: str) -> float:
    """Give how many times smaller zlib makes a text."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def repeats(words: Sequence[str]) -> int:
    """Give how often in a row the most repeated phrase of at most LONGEST_PHRASE words is said."""
    most = min(1, len(words))
    for size in range(1, min(LONGEST_PHRASE, len(words) // 2) + 1):
        run = 0  # of words that equal the one `size` before
        for i in range(size, len(words)):
            run = run + 1 if words[i] == words[i - size] else 0
            most = max(most, 1 + run // size)
    return most


def read_guards(defaults: Guards, given: Mapping[str, Any] | None) -> Guards:
    """Put what a profile says in the place of some thresholds.

    Raises:
        ModelError: names every threshold that is unknown or out of range.

    """
    faults = Faults({})
    table: Any = given
    if isinstance(given, Mapping) or given is None:
        table = dataclasses.asdict(defaults) | dict(given or {})
    made = build(Guards, table, "asr.options.guards.", faults)
    if faults.texts:
        raise ModelError("asr.options.guards", "; ".join(faults.texts))
    return made
