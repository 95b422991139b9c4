"""Writes a stream, or what a search finds, to a file; and corrections as a training manifest."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from abhinaya.models.text import to_json
from abhinaya.stream.errors import SinkError
from abhinaya.stream.serve.store import queries
from abhinaya.stream.serve.store.file import HistoryFile
from abhinaya.stream.serve.store.packed import unpack
from abhinaya.stream.serve.store.queries import Filter
from abhinaya.stream.sinks.events import wall_time
from abhinaya.stream.sinks.export.formats import JSON_LINES, export

MANIFEST: Final = "abhinaya.manifest/1"
"""The schema of a manifest, as in docs/data.md."""
CORPUS: Final = "corrections"
MAX_SEGMENTS: Final = 200_000
"""Segments of one export: a day of 32 streams."""
PAGE: Final = 500

_CORRECTIONS: Final = (
    "SELECT c.stream, c.segment, s.name, s.party, g.start_s, g.end_s, e.body, c.at, c.who,"
    " c.judged, c.label, c.note FROM corrections c JOIN streams s ON s.id = c.stream"
    " JOIN segments g ON g.stream = c.stream AND g.segment = c.segment"
    " JOIN events e ON e.number = g.event ORDER BY c.stream, c.segment, c.id"
)


class TooMuchError(Exception):
    """A search finds more than one file takes."""


def exported(
    file: HistoryFile, wanted: Filter, suffix: str
) -> tuple[tempfile.TemporaryDirectory[str], Path]:
    """Write what a filter finds to a file; return its folder, to be removed, and its path.

    All events of a stream, if the filter names only a stream; else the segments that it finds, in
    their last revision, stream by stream.

    Args:
        file: the history.
        wanted: what to export.
        suffix: suffix of the format, as in `sinks/export/formats.py`.

    Raises:
        TooMuchError: the search finds more than MAX_SEGMENTS.
        StoreError: the history cannot be read.
        SinkError: the format needs a package that is not installed, or the disk is full.

    """
    folder = tempfile.TemporaryDirectory(prefix="abhinaya-export-")
    try:
        lines = Path(folder.name) / f"events{JSON_LINES}"
        with lines.open("wb") as out:
            out.writelines(body + b"\n" for body in _events(file, wanted))
        target = Path(folder.name) / f"history{suffix}"
        export(lines, target)
    except OSError as error:
        folder.cleanup()
        reason = f"cannot be written: {error.strerror}"
        raise SinkError(folder.name, reason, "free some space") from error
    except BaseException:
        folder.cleanup()
        raise
    return folder, target


def manifest(file: HistoryFile) -> Iterator[bytes]:
    """Yield the lines of a training manifest of all corrected segments.

    The votes of a clip are the last label of each person. A clip has words and times but no audio,
    because the monitor keeps none; `origin` says who labelled it, when, and of which stream.
    """
    yield _line({"schema": MANIFEST, "root": "."})
    with file.reading() as db:
        rows = db.execute(_CORRECTIONS).fetchall()
    clips: dict[tuple[int, int], list[tuple[Any, ...]]] = {}
    for stream, segment, *rest in rows:
        clips.setdefault((stream, segment), []).append(tuple(rest))
    for (stream, segment), of in clips.items():
        yield _line(_clip(f"{CORPUS}-{stream}-{segment}", of))


def _clip(name: str, rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    stream, party, start_s, end_s, body, *_ = rows[-1]
    labels = {who: label for *_, who, _, label, _ in rows}
    votes: dict[str, float] = {}
    for label in labels.values():
        votes[label] = votes.get(label, 0.0) + 1.0
    said = msgspec.json.decode(unpack(body)).get("transcript") or {}
    *_, at, _, judged, _, note = rows[-1]
    clip = {
        "id": name,
        "corpus": CORPUS,
        "speaker": stream,
        "votes": votes,
        "transcript": said.get("text", ""),
        "transcript_source": "asr" if said.get("text") else "",
        "kind": "text",
        "language": said.get("language", ""),
        "start_s": start_s,
        "end_s": end_s,
        "origin": {
            "by": ", ".join(labels),
            "at": wall_time(at),
            "stream": stream,
            "party": party,
            "judged": judged,
            "note": note,
        },
    }
    return {key: value for key, value in clip.items() if value != ""}


def _events(file: HistoryFile, wanted: Filter) -> Iterator[bytes]:
    if wanted.stream is not None and wanted == Filter(stream=wanted.stream):
        with file.reading() as db:
            rows = db.execute("SELECT number FROM events WHERE stream = ?", (wanted.stream,))
            numbers = sorted(number for (number,) in rows)
        yield from _bodies(file, numbers)
        return
    found: dict[int, list[int]] = {}
    before: str | None = ""
    count = 0
    while before is not None:
        page = queries.segments(file, wanted, 1000, before)
        for row in page["segments"]:
            found.setdefault(row["stream_id"], []).append(row["number"])
        count, before = count + len(page["segments"]), page["next"]
        if count > MAX_SEGMENTS:
            raise TooMuchError
    for stream in sorted(found):
        yield from _bodies(file, [*_start_of(file, stream), *sorted(found[stream])])


def _start_of(file: HistoryFile, stream: int) -> list[int]:
    """Return the number of the event that begins a stream, if it is stored."""
    query = "SELECT number, body FROM events WHERE stream = ? ORDER BY number LIMIT 1"
    with file.reading() as db:
        rows = db.execute(query, (stream,)).fetchall()
    return [number for number, body in rows if b'"stream_started"' in unpack(body)]


def _bodies(file: HistoryFile, numbers: list[int]) -> Iterator[bytes]:
    """Yield the events with these numbers, those that are stored."""
    for start in range(0, len(numbers), PAGE):
        with file.reading() as db:
            rows = [
                db.execute("SELECT body FROM events WHERE number = ?", (number,)).fetchone()
                for number in numbers[start : start + PAGE]
            ]
        yield from (unpack(row[0]) for row in rows if row)


def _line(values: dict[str, Any]) -> bytes:
    return to_json(values) + b"\n"
