"""What the values of a frame look like before anything was heard: the prior of what is running.

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

PRIOR_MEL_STD: Final[FloatArray] = np.array(
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

PRIOR_CEPSTRA_STD: Final[FloatArray] = np.array(
    [
        18.87, 8.95, 5.11, 4.08, 3.26, 2.67, 2.51, 2.26, 2.10, 1.97,
        1.80, 1.75, 1.68, 1.64, 1.64, 1.59, 1.55, 1.50, 1.48, 1.43,
    ],
    np.float32,
)
"""Deviation of the cepstral coefficients within one clip, and below of their motion."""

PRIOR_MOTION_STD: Final[FloatArray] = np.array(
    [
        8.88, 5.03, 3.43, 2.49, 2.28, 1.99, 1.89, 1.82, 1.72, 1.64,
        1.57, 1.53, 1.49, 1.47, 1.45, 1.42, 1.40, 1.37, 1.34, 1.31,
    ],
    np.float32,
)

PRIOR_VOICE_MEAN: Final[FloatArray] = np.array([0.691, 0.656, 3.572, 18.608, 0.019], np.float32)
"""Voiced, strength, pitch, its square, its motion (`voice.py`), and below their deviation."""

PRIOR_VOICE_STD: Final[FloatArray] = np.array([0.436, 0.240, 2.258, 12.027, 0.053], np.float32)
# fmt: on
