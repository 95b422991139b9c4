"""The padding of BEATs as its published code has it: golden values of batches were made with it."""

from __future__ import annotations

from torch import Tensor

from abhinaya.models.published.beats import frame_count, token_count


def published_mask(padding: Tensor, count: int) -> Tensor:
    """Reduce a mask [B, N], True on padding, to [B, count].

    The last N % count entries are dropped, the rest is cut into `count` equal runs, and a run is
    padding if all of it is.
    """
    padding = padding[:, : padding.shape[1] // count * count]
    return padding.view(len(padding), count, -1).all(-1)


def published_token_mask(padding: Tensor) -> Tensor:
    """Reduce samples to frames to tokens: [B, n] -> [B, T], True on padding."""
    samples = padding.shape[1]
    return published_mask(published_mask(padding, frame_count(samples)), token_count(samples))
