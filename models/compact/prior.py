"""What log-mel energies look like before anything was heard: the prior of the running statistics.

Measured over the training speakers of RAVDESS and nEMO (weighted by clip), a quarter as recorded
and the rest through the drawn channels of `abhinaya.train.data.channels`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from abhinaya.models.base import FloatArray

# fmt: off
PRIOR_LEVEL: Final = -5.88
"""Mean log-mel energy of speech over all bins, clips and channels: only for fixed statistics."""

PRIOR_SHAPE: Final[FloatArray] = np.array(
    [
        0.34, 1.43, 2.46, 3.28, 3.65, 3.66, 3.40, 3.09, 3.06, 3.06, 3.13, 2.75,
        2.74, 2.34, 2.07, 1.71, 1.54, 1.17, 1.00, 0.87, 0.84, 0.81, 0.75, 0.70,
        0.63, 0.63, 0.55, 0.51, 0.46, 0.40, 0.27, 0.20, 0.12, 0.04, -0.02, -0.00,
        -0.04, 0.02, -0.03, -0.11, -0.25, -0.39, -0.49, -0.58, -0.65, -0.76, -0.93, -1.16,
        -1.39, -1.63, -1.87, -2.11, -2.35, -2.59, -2.79, -2.96, -3.13, -3.29, -3.43, -3.58,
        -3.75, -3.97, -4.35, -5.11,
    ],
    np.float32,
)
"""[M] mean log-mel energy of speech, relative to the mean over the bins."""

PRIOR_STD: Final[FloatArray] = np.array(
    [
        2.41, 2.72, 3.04, 3.27, 3.41, 3.43, 3.39, 3.38, 3.38, 3.41, 3.45, 3.48,
        3.45, 3.41, 3.37, 3.33, 3.27, 3.20, 3.13, 3.09, 3.07, 3.06, 3.05, 3.04,
        3.03, 3.01, 3.00, 2.98, 2.95, 2.92, 2.88, 2.85, 2.82, 2.79, 2.77, 2.76,
        2.77, 2.79, 2.80, 2.79, 2.78, 2.77, 2.77, 2.77, 2.77, 2.76, 2.72, 2.68,
        2.64, 2.61, 2.57, 2.55, 2.53, 2.52, 2.53, 2.54, 2.54, 2.52, 2.49, 2.46,
        2.43, 2.39, 2.36, 2.30,
    ],
    np.float32,
)
"""[M] its deviation within one clip."""
# fmt: on
