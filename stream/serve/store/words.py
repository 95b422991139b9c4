"""The index of words.

Runs inside a transaction; the caller commits or rolls back.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Final

MERGE_PAGES: Final = 200
"""Pages that one step of merging writes: some milliseconds."""

_TERM: Final = re.compile(r'"([^"]*)"|(\S+)')


def add(db: sqlite3.Connection, segment: int, text: str) -> None:
    """Index the words of a segment."""
    db.execute("INSERT INTO words(rowid, text) VALUES(?,?)", (segment, text))


def remove(db: sqlite3.Connection, segment: int, text: str) -> None:
    """Remove the words of a segment: the text that was indexed."""
    db.execute("INSERT INTO words(words, rowid, text) VALUES('delete',?,?)", (segment, text))


def merge(db: sqlite3.Connection, first: bool) -> bool:
    """Do one step of merging the whole index, so that removed words leave the file.

    Return whether more is to do.
    """
    before = db.total_changes
    pages = -MERGE_PAGES if first else MERGE_PAGES
    db.execute("INSERT INTO words(words, rank) VALUES('merge', ?)", (pages,))
    return db.total_changes - before >= 2


def query_of(words: str) -> str:
    """Return what a person typed as a query: all words, the last as a beginning, "a phrase"."""
    found = _TERM.findall(words.replace("\0", " "))
    terms = ['"' + (phrase or word).replace('"', " ") + '"' for phrase, word in found]
    if found and found[-1][1] and not words[-1:].isspace():
        terms[-1] += "*"
    return " ".join(terms)
