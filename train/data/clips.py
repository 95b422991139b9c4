"""The common form of a clip, and the clips of the embedded recipes.

A clip stores the annotators' votes by label. Consensus and distribution are computed from them, so
a later choice (keep ties? soft labels?) does not need the corpus again.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from abhinaya.models.labels import ATTRIBUTES, LABELS
from abhinaya.train.data.tables import rows_of
from abhinaya.train.errors import DataError

OTHER: Final = "other"
"""Vote for an emotion outside the eight labels."""
VOTABLE: Final = (*LABELS, OTHER)
NO_AGREEMENT: Final = "no agreement"
LONGEST_S: Final = 10.0
"""Seconds of the monitor's longest segment, and of the paper's crops."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording or sentence of one speaker.

    Raises DataError: a label is unknown, a vote is negative, or an attribute is unknown or outside
    0 to 1.
    """

    id: str
    """Unique in its manifest; predictions name the clip by it."""
    corpus: str
    speaker: str = ""
    """Name of the speaker; empty if unknown."""
    votes: Mapping[str, float] = field(default_factory=dict)
    """Label of VOTABLE -> number of annotators who chose it. An acted clip has one vote, for the
    instruction. Empty if unknown (a hidden test set)."""
    path: str = ""
    """Audio file, below the root of its manifest; empty for a text."""
    split: str = ""
    secondary: Mapping[str, float] = field(default_factory=dict)
    """Votes for further emotions, with the corpus's own names: many are outside the eight."""
    attributes: Mapping[str, float] = field(default_factory=dict)
    """Name in ATTRIBUTES -> value, rescaled to 0 to 1."""
    transcript: str = ""
    transcript_source: str = ""
    """`gold`: a human transcript or the text of an instruction; `asr`: speech recognition."""
    scripted: bool = False
    """The words were given, the same for every emotion: never used to train a text model."""
    kind: str = "speech"
    """`speech`, `vocal_burst` or `text`."""
    gender: str = ""
    language: str = ""
    start_s: float | None = None
    """Start of the clip in its file, in seconds; None for the whole file."""
    end_s: float | None = None
    published: str = ""
    """The corpus's own consensus, or NO_AGREEMENT, where it differs from that of the votes."""
    origin: Mapping[str, str] = field(default_factory=dict)
    """Where the label is from, for people: who corrected it in the console, when, of which call."""

    def __post_init__(self) -> None:
        if unknown := set(self.votes) - set(VOTABLE):
            known = ", ".join(VOTABLE)
            raise DataError(f"clip {self.id}: unknown labels {sorted(unknown)}; known: {known}")
        if self.published not in ("", NO_AGREEMENT, *VOTABLE):
            raise DataError(f"clip {self.id}: published: {self.published!r} is not a known label")
        if any(not (math.isfinite(n) and n >= 0) for n in self.votes.values()):
            raise DataError(f"clip {self.id}: votes {dict(self.votes)}: counts must be 0 or more")
        for name, value in self.attributes.items():
            if name not in ATTRIBUTES or not 0.0 <= value <= 1.0:
                raise DataError(
                    f"clip {self.id}: attribute {name} = {value}; known are "
                    f"{', '.join(ATTRIBUTES)}, each scaled to 0 to 1"
                )

    @property
    def consensus(self) -> str | None:
        """Return the published label, else that of the votes; None: no agreement."""
        if self.published:
            return None if self.published == NO_AGREEMENT else self.published
        return self.voted

    @property
    def voted(self) -> str | None:
        """Return the label with the most votes; None on a tie or without votes."""
        most = max(self.votes.values(), default=0.0)
        best = [label for label, count in self.votes.items() if count == most]
        return best[0] if len(best) == 1 and most > 0 else None

    @property
    def label(self) -> str | None:
        """Return the consensus if it is one of the eight labels, else None."""
        return self.consensus if self.consensus in LABELS else None


def labels_of(clips: Sequence[Clip]) -> list[str]:
    """Return the label of each clip. Raises DataError: a clip has none of the eight."""
    if nameless := [clip.id for clip in clips if clip.label is None]:
        of = f"({len(nameless)} clips of {len(clips)})"
        raise DataError(
            f"clip {nameless[0]}: no consensus among the eight labels {of}; leave it out"
        )
    return [clip.label for clip in clips if clip.label is not None]


def read_clips(data: Path, corpora: Sequence[str]) -> list[Clip]:
    """Return the clips of `corpora` in `data`/speech.csv, in the order of the file.

    Raises DataError: the file or a corpus is missing, a label is unknown, or a speaker is in two
    splits, so figures would not hold for new speakers.
    """
    index = data / "speech.csv"
    rows = rows_of(index, "give the folder of the index of clips with --data")
    rows = [row for row in rows if row["corpus"] in corpora]
    if missing := set(corpora) - {row["corpus"] for row in rows}:
        raise DataError(f"{index}: has no clips of {', '.join(sorted(missing))}")
    pairs = {(row["speaker"], row["suggested_split"]) for row in rows}
    if torn := sorted(name for name, n in Counter(name for name, _ in pairs).items() if n > 1):
        raise DataError(f"{index}: speakers in more than one split: {', '.join(torn[:5])}")
    return [
        Clip(
            id=row["path"],
            path=str(data / row["path"]),
            corpus=row["corpus"],
            speaker=row["speaker"],
            kind=row["kind"],
            votes={row["label8"]: 1.0},
            split=row["suggested_split"],
        )
        for row in rows
    ]


READERS: Final = "neutral_voices"
"""A corpus, and its folder; file names begin with the reader's number, as in 19-198-0000.opus."""


def read_readers(data: Path, side: Literal["train", "dev"]) -> list[Clip]:
    """Return the neutral speech of half of the readers. Raises DataError if there is none.

    Acted corpora have few speakers, so neutral speech of many others is added. A hash of the
    reader's number chooses the half, so it does not depend on the other files.
    """
    folder, clips = data / READERS, []
    for path in sorted(folder.glob("*.opus")):
        reader = path.name.split("-")[0]
        if ("train", "dev")[zlib.crc32(reader.encode()) % 2] == side:
            speaker, votes = f"{READERS}_{reader}", {"neutral": 1.0}
            clips.append(Clip(path.name, READERS, speaker, votes, str(path), side))
    if not clips:
        raise DataError(f"{folder}: has no neutral voices for {side!r}; give another --data")
    return clips
