"""What is said in a stream, in a fixed number of lines: the end of it, where it is too long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len
from rich.style import Style

from abhinaya.stream.messages import Transcript, Verdict
from abhinaya.stream.sinks.live.row import PLAIN, Row, style
from abhinaya.stream.sinks.render import QUIET, clean

UNSTABLE: Final = "dim italic"
"""Words that may still change. Both, since not every terminal knows each."""


LONGEST: Final = 20
"""Cells of a word that is not divided."""


class Word(NamedTuple):
    """A word and how it is written."""

    text: str
    how: Style


def words_of(verdict: Verdict | None) -> list[Word]:
    """Give what was said, or why there are no words or no label."""
    if verdict is None:
        return []
    words = []
    if verdict.reason:
        words += _quiet(f"no label: {verdict.reason}")
    if verdict.transcript is not None:
        words += _spoken(verdict.transcript)
    return words


def _spoken(transcript: Transcript) -> list[Word]:
    texts = clean(transcript.text).split()
    if not texts:
        return _quiet(f"no words: {transcript.reason}") if transcript.reason else []
    stable = len(texts) if transcript.final else transcript.stable
    texts[0] = f"“{texts[0]}"
    texts[-1] = f"{texts[-1]}{'”' if transcript.final else ' …'}"
    return [Word(text, PLAIN if i < stable else style(UNSTABLE)) for i, text in enumerate(texts)]


def _quiet(text: str) -> list[Word]:
    return [Word(word, style(QUIET)) for word in clean(text).split()]


def wrapped(words: Sequence[Word], width: int, lines: int) -> list[Row]:
    """Fold words into exactly `lines` rows; of a longer text, the end, which is the latest.

    Lines are folded from the beginning, so that a text that grows moves up by whole lines.
    """
    rows: list[Row] = []
    for word in words:
        for piece, glued in _pieces(word.text, width):
            cells = cell_len(piece)
            if not rows or rows[-1].cells + cells + (not glued) > width:
                rows.append(Row(width))
            elif not glued:
                rows[-1].add(" ", word.how)
            rows[-1].add(piece, word.how)
    if len(rows) > lines > 0:
        rows = rows[-lines:]
        rows[0] = Row(width).add("…", style(QUIET)).extend(_without_first(rows[0]))
    return rows[:lines] + [Row(width) for _ in range(lines - len(rows))]


def _pieces(text: str, width: int) -> Iterator[tuple[str, bool]]:
    """Cut a word that is too long for one, as in scripts without spaces; say what is glued."""
    if cell_len(text) <= min(width, LONGEST):
        yield text, False
        return
    for i, character in enumerate(_characters(text)):
        yield character, i > 0


def _characters(text: str) -> list[str]:
    """Give characters, each with the marks that stand on it."""
    characters: list[str] = []
    for codepoint in text:
        if characters and not cell_len(codepoint):
            characters[-1] += codepoint
        else:
            characters.append(codepoint)
    return characters


def _without_first(row: Row) -> Row:
    rest = Row(row.width)
    for i, part in enumerate(row.parts):
        text = part.text if i else "".join(_characters(part.text)[1:])
        rest.add(text, part.style or PLAIN)
    return rest
