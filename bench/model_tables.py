"""The tables that `abhinaya bench models` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from abhinaya.bench.report import ms, table

if TYPE_CHECKING:
    from rich.table import Table

    from abhinaya.bench.model_stages import StageTime
    from abhinaya.bench.models import Mixed, Speed, Weight


def tables(
    heading: str,
    speeds: Sequence[Speed],
    mixed: Sequence[Mixed],
    stages: Sequence[StageTime],
    weights: Sequence[Weight],
) -> list[Table]:
    """Return the tables: speed by length and batch, mixed lengths, their stages, and sizes."""
    columns = (
        "voter",
        "length",
        "batch",
        "best ms",
        "p50 ms",
        "p95 ms",
        "ms/seg",
        "seg/s",
        "GF/seg",
        "peak",
    )
    rows = [
        (
            s.voter,
            f"{s.length_s:g} s",
            str(s.batch),
            ms(s.best_ms),
            ms(s.p50_ms),
            ms(s.p95_ms),
            ms(s.ms_a_segment),
            f"{s.segments_a_second:.1f}",
            f"{s.gflop_a_segment:.3g}",
            f"{s.share_of_peak:.1%}",
        )
        for s in speeds
    ]
    together = [
        (
            m.voter,
            ms(m.together_ms),
            ms(m.one_by_one_ms),
            f"{m.gain:.1f} x",
            f"{m.cpu_gain:.1f} x",
            f"{m.padding:.0%}",
            f"{m.padding_alone:.0%}",
        )
        for m in mixed
    ]
    parts = [
        (s.voter, s.stage, ms(s.together_ms), ms(s.one_by_one_ms), f"{s.gain:.1f} x")
        for s in stages
    ]
    sizes = [
        (
            w.voter,
            f"{w.parameters:,}",
            f"{w.weights_mb:,.1f}",
            "-" if w.peak_mb is None else f"{w.peak_mb:,.0f}",
        )
        for w in weights
    ]
    return [
        table(heading, columns, rows),
        table(
            f"{16} segments of mixed lengths, 0.5 to 2 s",
            (
                "voter",
                "together ms",
                "one by one ms",
                "gain",
                "gain of CPU",
                "padding",
                "alone",
            ),
            together,
        ),
        table(
            "the same, stage by stage",
            ("voter", "stage", "together ms", "one by one ms", "gain"),
            parts,
        ),
        table("size", ("voter", "parameters", "weights MB", "peak MB"), sizes),
    ]
