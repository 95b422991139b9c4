"""`abhinaya bench quality`: what README quotes about words, voters and vote, in one table.

    abhinaya bench quality --data ../shared/data
    abhinaya bench quality --data ../shared/data --only calls --only AMI
    abhinaya bench quality --data ../shared/data --set vote.method=mean --json quality.json

Real recordings are cut by the monitor's own segmenter; segments go in order to the profile's
transcriber and voters, each voter with the state that it returned before, and the profile's rule
decides. An acted clip, and a piece of one, is heard right after about 20 s of its speaker's mostly
neutral speech. Speakers and texts are those that nothing was trained on (the split `dev`).
"""

from __future__ import annotations

import argparse
import difflib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from abhinaya.bench.monitored import add_profile, profile_of
from abhinaya.bench.quality.ears import Answer, Ears, read_answers, write_answers
from abhinaya.bench.quality.material import MATERIALS, Material
from abhinaya.bench.quality.rows import as_json, more_rows, rows_of, tables_of
from abhinaya.bench.quality.source import Size, Source
from abhinaya.bench.report import Report, parser, publish
from abhinaya.models.errors import ModelError as UnusableModel
from abhinaya.stream.config import Config
from abhinaya.stream.errors import ConfigError, ModelError, SinkError


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write JSON; return the exit code."""
    options = _options(argv)
    config = profile_of(options)
    more = [row for path in options.more for row in more_rows(path)]
    if options.again:
        answers = read_answers(_bytes_of(options.again))
    else:
        size = Size.quick() if options.quick else Size()
        source = Source(options.data, size, options.seed)
        answers = hear(config, choose(MATERIALS, options.only), source)
    if options.keep:
        _write(options.keep, write_answers(answers))
    heard: dict[str, list[Answer]] = {}
    for answer in answers:
        heard.setdefault(answer.material, []).append(answer)
    rows = [*rows_of(heard, tuple(config.voters)), *more]
    settings = {
        "profile": config.profile,
        "settings": options.settings,
        "data": str(options.data),
        "quick": options.quick,
        "seed": options.seed,
    }
    report = Report("quality", settings, {"rows": as_json(rows)})
    publish(report, tables_of(rows), options.json)
    return 0


def choose(materials: Sequence[Material], only: Sequence[str]) -> list[Material]:
    """Pick materials by name; a name stands for all that begin with it.

    Raises:
        ConfigError: no material has such a name.

    """
    names = [material.name for material in materials]
    for wanted in only:
        if not any(name.startswith(wanted) for name in names):
            near = difflib.get_close_matches(wanted, names, n=1)
            known = f"there are: {', '.join(names)}"
            remedy = f"did you mean {near[0]!r}?" if near else known
            raise ConfigError(f"--only {wanted}", "is not a material", remedy)
    return [m for m in materials if not only or any(m.name.startswith(name) for name in only)]


def hear(config: Config, materials: Sequence[Material], source: Source) -> list[Answer]:
    """Let a profile hear materials; says on standard error how far it is.

    Raises:
        AbhinayaError: data is missing, or a model cannot be loaded.

    """
    try:
        ears = Ears.load(config)
        found: list[Answer] = []
        for material in materials:
            begun, before = time.monotonic(), len(found)
            found += ears.hear(material.name, material.sessions(source), material.votes)
            took = time.monotonic() - begun
            said = f"{material.name}: {len(found) - before} segments in {took:.0f} s"
            print(said, file=sys.stderr, flush=True)
    except UnusableModel as error:
        raise ModelError(error.subject, error.reason, error.remedy) from error
    return found


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"--again {path}", f"cannot be read: {error.strerror}") from error


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise SinkError(str(path), f"cannot be written: {error.strerror}") from error


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    arguments = parser("quality", __doc__)
    arguments.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="(%(default)s)"
    )
    arguments.add_argument(
        "--only", action="append", default=[], metavar="MATERIAL", help="this one; may be repeated"
    )
    arguments.add_argument("--quick", action="store_true", help="a tenth of it: not to be quoted")
    arguments.add_argument("--seed", type=int, default=0, help="of what is drawn (0)")
    arguments.add_argument(
        "--more",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="JSON rows that something else measured, for example a corpus left out of training",
    )
    arguments.add_argument("--keep", type=Path, metavar="FILE", help="write all answers here")
    arguments.add_argument(
        "--again", type=Path, metavar="FILE", help="measure answers that --keep wrote"
    )
    add_profile(arguments)
    return arguments.parse_args(argv)
