"""Tracks of speech probability and what a segmenter makes of them, for its tests and others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from abhinaya.stream.front.segmenter import Piece, Segmenter
from abhinaya.stream.front.vad import FRAME_SAMPLES
from abhinaya.stream.settings.config import VadConfig

S = FRAME_SAMPLES
PLAIN = VadConfig(
    min_speech_s=0.096,  # 3 frames
    min_silence_s=0.16,  # 5 frames
    pad_s=0.064,  # 2 frames
    max_segment_s=2.0,  # 62.5 frames
    cut_search_s=0.8,
)


def ramp(samples: int, start: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Samples that tell their own position, so that one lost or doubled shows."""
    return np.arange(start, start + samples, dtype=np.float32)


def cut(
    track: Sequence[float], config: VadConfig = PLAIN, tail: int = 0
) -> tuple[list[Piece], Segmenter]:
    """Feed a probability for each frame; a tail makes a short frame after them."""
    segmenter = Segmenter(config)
    pieces: list[Piece] = []
    for number, probability in enumerate(track):
        pieces += segmenter.push(ramp(S, number * S), probability)
    if tail:
        pieces += segmenter.push(ramp(tail, len(track) * S), 0.9)
    return pieces + segmenter.flush(), segmenter


stretches = st.lists(
    st.tuples(st.sampled_from([0.0, 0.2, 0.4, 0.6, 1.0]), st.integers(1, 60)), max_size=25
)
configs = st.builds(
    VadConfig,
    min_speech_s=st.sampled_from([0.032, 0.1, 0.25, 1.0]),
    min_silence_s=st.sampled_from([0.032, 0.2, 0.4, 2.0]),
    pad_s=st.sampled_from([0.0, 0.05, 0.15, 1.0]),
    max_segment_s=st.sampled_from([1.0, 2.5, 10.0]),
    cut_search_s=st.sampled_from([0.0, 0.3, 0.9]),
    brief_silence_s=st.sampled_from([0.032, 0.16, 5.0]),
)
