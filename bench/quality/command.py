"""`abhinaya bench quality`: the figures in README of words, voters and vote, in one table.

    abhinaya bench quality --data ../shared/data
    abhinaya bench quality --only words             # read clips, a telephone line, all podcasts
    abhinaya bench quality --only noise             # text for noise, speech dropped by guards
    abhinaya bench quality --only calls --only AMI
    abhinaya bench quality --data ../shared/data --set vote.method=mean --json quality.json

Real recordings are cut by the monitor's segmenter. The profile's transcriber and voters process
the segments in order, with their states, and the profile's rule decides. Before an acted clip, or a
piece of one, they process about 20 s of its speaker's mostly neutral speech. Speakers and texts are
from the split `dev`, which is never trained on.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from abhinaya.bench.monitored import add_profile, profile_of
from abhinaya.bench.quality import stored
from abhinaya.bench.quality.material import MATERIALS, Material
from abhinaya.bench.quality.offline import Answer, OfflineMonitor
from abhinaya.bench.quality.rows import as_json, rows_of, tables_of
from abhinaya.bench.quality.sessions import Source
from abhinaya.bench.report import Report, parser, publish, settings_of
from abhinaya.models.errors import ModelError as UnusableModel
from abhinaya.models.errors import near_miss
from abhinaya.models.text import say
from abhinaya.stream.errors import ConfigError, ModelError
from abhinaya.stream.settings.config import Config


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write JSON; return the exit code."""
    options = _options(argv)
    config = profile_of(options)
    monitor = loaded(config)
    source = Source(options.data, options.quick)
    answers = run(monitor, choose(MATERIALS, options.only), source)
    if options.write is not None:
        say(f"{options.write}: {stored.write(options.write, answers, monitor.cards)}")
    rows = rows_of(answers, tuple(config.voters))
    report = Report("quality", settings_of(options), {"rows": as_json(rows)})
    publish(report, tables_of(rows), options.json)
    return 0


def choose(materials: Sequence[Material], only: Sequence[str]) -> list[Material]:
    """Return the materials of a kind in `only`, or with a name that begins with one of `only`.

    Raises ConfigError: no material fits.
    """
    names = [name for m in materials for name in (m.name, m.kind)]
    for wanted in only:
        if not any(name.startswith(wanted) for name in names):
            raise ConfigError(f"--only {wanted}", "is not a material", near_miss(wanted, {*names}))
    return [
        m
        for m in materials
        if not only or m.kind in only or any(m.name.startswith(wanted) for wanted in only)
    ]


def loaded(config: Config) -> OfflineMonitor:
    """Return the models of a profile. Raises AbhinayaError: a model cannot be loaded."""
    try:
        return OfflineMonitor.load(config)
    except UnusableModel as error:
        raise ModelError(error.subject, error.reason, error.remedy) from error


def run(
    monitor: OfflineMonitor, materials: Sequence[Material], source: Source
) -> dict[str, list[Answer]]:
    """Return the answers by material; print the progress on standard error.

    Raises ConfigError: data is missing.
    """
    found: dict[str, list[Answer]] = {}
    for material in materials:
        begun = time.monotonic()
        answers = found[material.name] = list(monitor.answers(material, source))
        took = time.monotonic() - begun
        say(f"{material.name}: {len(answers)} segments in {took:.0f} s", file=sys.stderr)
    return found


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    arguments = parser("quality", __doc__)
    add = arguments.add_argument
    add("--data", type=Path, default=Path("../shared/data"), help="(%(default)s)")
    about = "words, noise, votes, or the beginning of a material's name; may be repeated"
    add("--only", action="append", default=[], metavar="NAME", help=about)
    add("--write", type=Path, metavar="DIR", help="store the votes, for abhinaya bench cascade")
    add("--quick", action="store_true", help="a tenth of the data, for a quick look")
    add_profile(arguments)
    return arguments.parse_args(argv)
