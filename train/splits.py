"""Who tunes: speakers of the training split that nothing is learnt from before calibration.

The temperature and what else is fitted beside a network is fitted on them. The split `dev` of the
index is looked at only to measure.
"""

from __future__ import annotations

from typing import Final

TUNE_SPEAKERS: Final = frozenset({"ravdess_15", "ravdess_16", "nemo_MK0", "nemo_MP0"})
"""A man and a woman of RAVDESS and of nEMO, out of the training split. MK0 has no surprise; MP0 has
every class and the fewest clips, so that little is lost to fit on."""
