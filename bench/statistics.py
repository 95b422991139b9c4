"""Percentiles, in one place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Give p50, p95 and p99 of `values`; NaN for none."""
    if not values:
        return dict.fromkeys(("p50", "p95", "p99"), float("nan"))
    p50, p95, p99 = np.percentile(np.asarray(values), [50, 95, 99])
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99)}
