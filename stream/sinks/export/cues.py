"""Text formats with a line or a cue for each segment: WebVTT, SubRip, RTTM, Audacity labels.

A gap is written as a gap, never as silence. Segments are ordered by their start.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Final, Literal

from abhinaya.models.labels import LABELS
from abhinaya.models.text import clean, one_line
from abhinaya.stream.sinks.palette import COLOURS
from abhinaya.stream.sinks.reader import segments
from abhinaya.stream.sinks.rows import Lost, Segment

LOST: Final = "not heard"
MINIMUM_MS: Final = 1
"""Minimum length of a cue: players refuse one of length 0."""
_MARKUP: Final = str.maketrans("<>{}", "‹›()")  # noqa: RUF001 - they look alike, as they should
"""SubRip has no escapes, but players obey `<font>` and `{\\an8}`."""


def vtt(source: Path, target: Path) -> None:
    """Write WebVTT: the stream's name is the voice; a class gives each label its colour."""
    colours = "".join(f"::cue(.{label}) {{ color: {COLOURS[label]} }}\n" for label in LABELS)
    header = f"WEBVTT\n\nSTYLE\n{colours}\n"
    _write(target, chain([header], map(_vtt_cue, segments(source))))


def srt(source: Path, target: Path) -> None:
    """Write SubRip."""
    cues = enumerate(map(_srt_cue, segments(source)), start=1)
    _write(target, (f"{number}\n{cue}" for number, cue in cues))


def captions(source: Path, kind: Literal["srt", "vtt"]) -> str:
    """Return SubRip or WebVTT of a file with one stream, which stays unnamed."""
    point, head = (",", "") if kind == "srt" else (".", "WEBVTT\n\n")
    found = []
    for number, row in enumerate(segments(source), start=1):
        start, end = _span_ms(row)
        text = _plain(row).replace("-->", "→")
        text = text.translate(_MARKUP) if kind == "srt" else _escaped(text)
        found.append(f"{number}\n{_clock(start, point)} --> {_clock(end, point)}\n{text}\n\n")
    return head + "".join(found)


def rttm(source: Path, target: Path) -> None:
    """Write RTTM, with the emotion in the field of the speaker."""
    _write(target, map(_rttm_line, segments(source)))


def audacity(source: Path, target: Path) -> None:
    """Write a label file of Audacity."""
    _write(target, map(_audacity_line, segments(source)))


def _write(target: Path, texts: Iterable[str]) -> None:
    with target.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(texts)


def _vtt_cue(row: Segment) -> str:
    """Return a cue; its identifier is the stream's name and the segment's number."""
    start, end = _span_ms(row)
    voice = f"<v {_escaped(one_line(row.stream)) or 'stream'}>"
    if isinstance(row, Lost):
        text = f"<i>[{LOST}: {_escaped(one_line(row.reason))}]</i>"
    else:
        kind = f".{row.label}" if row.label in LABELS else ""  # a class has no escapes
        text = f"<c{kind}>[{_escaped(one_line(row.label))}]</c> {_escaped(row.text)}".rstrip()
    name = _escaped(one_line(f"{row.stream} {row.segment}"))
    return f"{name}\n{_clock(start, '.')} --> {_clock(end, '.')}\n{voice}{text}\n\n"


def _srt_cue(row: Segment) -> str:
    """Return a cue without its number."""
    start, end = _span_ms(row)
    text = f"{one_line(row.stream)}: {_plain(row)}".replace("-->", "→").translate(_MARKUP)
    return f"{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n\n"


def _rttm_line(row: Segment) -> str:
    """Return a line of ten fields; a gap has the type NOSCORE."""
    stream = _field(row.stream)
    span = f"{row.start_s:.3f} {row.end_s - row.start_s:.3f}"
    if isinstance(row, Lost):
        return f"NOSCORE {stream} 1 {span} <NA> <NA> gap <NA> <NA>\n"
    confidence = "<NA>" if row.confidence is None else f"{row.confidence:.4f}"
    return f"SPEAKER {stream} 1 {span} <NA> <NA> {_field(row.label)} {confidence} <NA>\n"


def _audacity_line(row: Segment) -> str:
    """Return start and end in seconds and the text, separated by tabs."""
    return f"{row.start_s:.6f}\t{row.end_s:.6f}\t{one_line(row.stream)}: {_plain(row)}\n"


def _plain(row: Segment) -> str:
    if isinstance(row, Lost):
        return f"[{LOST}: {one_line(row.reason)}]"
    return f"[{one_line(row.label)}] {row.text}".rstrip()


def _span_ms(row: Segment) -> tuple[int, int]:
    start = round(1000 * row.start_s)
    return start, max(round(1000 * row.end_s), start + MINIMUM_MS)


def _clock(ms: int, point: str) -> str:
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}{point}{ms:03}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _field(text: str) -> str:
    """Return a name as one field: spaces, quotes and `%` are percent-encoded."""
    return "".join(f"%{ord(c):02X}" if c in ' "%' else c for c in clean(text)) or "stream"
