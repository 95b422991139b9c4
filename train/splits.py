"""Who is trained on, who tunes, who is only measured.

`fit` and `tune` divide the training split of the index, `dev` is never looked at before the model
card: temperature, neutral bias and fusion weights are fitted on `tune`, so that the figures on dev
are of speakers that nothing was chosen on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from abhinaya.train.data.clips import Clip

Part = Literal["fit", "tune", "dev"]

TUNE_SPEAKERS: Final = frozenset({"ravdess_15", "ravdess_16", "nemo_MK0", "nemo_MP0"})
"""A man and a woman of RAVDESS and of nEMO, out of the training split. MK0 has no surprise; MP0 has
every class and the fewest clips, so that little is lost to fit on."""


def part_of(clip: Clip) -> Part:
    """Which part a clip belongs to, by its speaker."""
    if clip.split != "train":
        return "dev"
    return "tune" if clip.speaker in TUNE_SPEAKERS else "fit"


def select(clips: Sequence[Clip], part: Part) -> list[Clip]:
    """Clips of one part, in order."""
    return [clip for clip in clips if part_of(clip) == part]
