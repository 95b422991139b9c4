"""What is said in a stream, in a fixed number of lines: the end of it, where it is too long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len
from rich.style import Style

from abhinaya.stream.sinks.live.row import PLAIN, Row, style
from abhinaya.stream.sinks.live.stream import StreamState
from abhinaya.stream.sinks.render import QUIET
from abhinaya.stream.sinks.rows import clean
from abhinaya.stream.wire.messages import Transcript, Verdict

UNSTABLE: Final = "dim italic"
"""Words that may still change. Both, since not every terminal knows each."""


CUT: Final = "… "
"""Stands before the end of a text whose beginning is not shown."""
LONGEST: Final = 20
"""Cells of a word that is not divided."""


class Word(NamedTuple):
    """A word and how it is written."""

    text: str
    how: Style


def words_of(stream: StreamState) -> list[Word]:
    """Give what was said, or why there are no words or no label.

    As long as nothing is known of the speech that goes on, the words before it can still be read.
    """
    if stream.so_far is not None:
        words = list(_words(stream.so_far, PLAIN))
        return words or list(_words(stream.verdict, style(QUIET)))
    return list(_words(stream.verdict, PLAIN))


def _words(verdict: Verdict | None, how: Style) -> Iterator[Word]:
    if verdict is None:
        return
    if verdict.reason and verdict.final:
        yield from _quiet(f"no label: {verdict.reason}")
    if verdict.transcript is not None:
        yield from _spoken(verdict.transcript, how)


def _spoken(transcript: Transcript, how: Style) -> list[Word]:
    texts = clean(transcript.text).split()
    if not texts:
        told = transcript.final and transcript.reason
        return _quiet(f"no words: {transcript.reason}") if told else []
    stable = len(texts) if transcript.final else transcript.stable
    texts[0] = f"“{texts[0]}"
    texts[-1] = f"{texts[-1]}{'”' if transcript.final else ' …'}"
    return [Word(text, how if i < stable else style(UNSTABLE)) for i, text in enumerate(texts)]


def _quiet(text: str) -> list[Word]:
    return [Word(word, style(QUIET)) for word in clean(text).split()]


def wrapped(words: Sequence[Word], width: int, lines: int) -> list[Row]:
    """Fold words into exactly `lines` rows; of a longer text, the end, which is the latest.

    Several lines are folded from the beginning, so that a text that grows moves up by whole lines.
    """
    if lines == 1:
        return [ending(words, width)]
    rows: list[Row] = []
    # what is cut begins with a mark, for which there is room in every line
    room = max(1, width - len(CUT))
    for word in words:
        for piece, glued in _pieces(word.text, room):
            cells = cell_len(piece)
            if not rows or rows[-1].cells + cells + (not glued) > room:
                rows.append(Row(width))
            elif not glued:
                rows[-1].add(" ", word.how)
            rows[-1].add(piece, word.how)
    if len(rows) > lines > 0:
        rows = rows[-lines:]
        rows[0] = Row(width).add(CUT, style(QUIET)).extend(rows[0])
    return rows[:lines] + [Row(width) for _ in range(lines - len(rows))]


def ending(words: Sequence[Word], width: int) -> Row:
    """Give the last words that fit into a line."""
    kept: list[Word] = []
    room = width + 1
    for word in reversed(words):
        room -= cell_len(word.text) + 1
        if room < (len(CUT) if len(kept) + 1 < len(words) else 0):
            break
        kept.insert(0, word)
    row = Row(width)
    if len(kept) < len(words):
        row.add(CUT, style(QUIET))
    if words and not kept:
        # one word, or one of a script without spaces, is longer than the line
        return row.add(_ending(words[-1].text, row.room), words[-1].how)
    for i, word in enumerate(kept):
        row.add(" " if i else "", word.how).add(word.text, word.how)
    return row


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


def _ending(text: str, cells: int) -> str:
    kept: list[str] = []
    for character in reversed(_characters(text)):
        cells -= cell_len(character)
        if cells < 0:
            break
        kept.append(character)
    return "".join(reversed(kept))
