"""Text that breaks formats, and what no output may show of it."""

from __future__ import annotations

import unicodedata
from typing import Any

from fakes import SECOND, info, vote
from msgspec.structs import replace
from output_fakes import gap, verdict

from abhinaya.stream.wire.messages import (
    Event,
    FrontDown,
    Missing,
    NodeDown,
    NodeUp,
    Remark,
    StreamEnded,
    StreamStarted,
)

HOSTILE = {
    "escape": "\x1b[2J\x1b]0;owned\x07",
    "c0": "".join(map(chr, range(0x20))),
    "c1": "".join(map(chr, range(0x7F, 0xA0))),
    "bidi": "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c",
    "zero width": "\u200b\u200c\u200d\u2060\ufeff\u00ad",
    "tags": "\U000e0041\U000e0042\U000e007f",
    "script": "<script>alert(1)</script>\" onload='x' </title></style>]]><!--",
    "formula": '=HYPERLINK("http://x","y")',
    "plus": "+1+1",
    "minus": "-1|cmd",
    "at": "@SUM(A1)",
    "wide formula": "＝1+1",  # noqa: RUF001
    "tab led": "\t=1+1",
    "return led": "\r=1+1",
    "template": "{}%s%n%d{0}{{x}}${jndi:x}",
    "lines": "a\nb\r\nc\x0bd\x0ce\x85f\u2028g\u2029h",
    "blank lines": "a\n\n1\n00:00:00,000 --> 00:00:01,000\nforged",
    "long": "x" * 4096,
    "surrogates": "bad\udcff\ud800end\udfff",
    "nul": "a\x00b",
    "rich": "[red]x[/red][link=http://x]y[/link]:smile:",
    "markdown": "# *x* `y` [z](http://x) | a | b |",
    "vtt": "--> <v Eve><c.angry>NOTE STYLE</c></v>",
    "srt": "<font size=99>{\\an8}x</font>",
    "textgrid": 'say "x" ""\n            xmin = 9 """',
    "rttm": "a b % c ; d",
    "audacity": "1.0\t2.0\tx",
    "json": '"}, {"schema": "abhinaya.event/1"',
    "shell": "$(touch x); `id` & | > ' \"",
    "path": "../../etc/passwd",
    "dash": "--output",
    "spaces": "  \u00a0\u3000 ",
    "empty": "",
}
"""By name. Every one is driven through every output."""

HIDDEN = {"Cc", "Cf", "Zl", "Zp", "Cs"}
"""Categories of control characters, marks of direction, separators of lines, and surrogates."""


def hidden(text: str, allowed: str = "\n") -> list[str]:
    """Return what a reader must not get to see."""
    return [c for c in text if unicodedata.category(c) in HIDDEN and c not in allowed]


def events(text: str) -> tuple[Event, ...]:
    """A stream whose every text is `text`, between marks by which a reader finds it again."""
    x = f"A{text}Z"
    short = text[:500]  # longer ones are refused
    voice = replace(vote(0, x, "sad", x), model=short)
    missing = (Missing(voter=text, reason=text),)
    first = verdict(0, 0.0, 2.0, "happy", x, text, votes=(voice,), missing=missing)
    said: Any = first.transcript
    # a cell may begin with anything that a word or a reason begins with
    told = replace(said, translation=text, language=short, reason=short)
    node = {"node": text, "service": x}
    return (
        NodeUp(**node, gives="vote", model=text, version=text, licence=text, noncommercial=True),
        StreamStarted(info=replace(info(x), source=text)),
        replace(first, transcript=told),
        verdict(1, 3.0, 4.0, "unknown", x, "", reason=text),
        gap(2, 4.0, 5.0, x, text),
        NodeDown(**node, incarnation="1", reason=text),
        FrontDown(front=text, incarnation="1", reason=text),
        Remark(source=text, text=text),
        StreamEnded(stream=x, sequence=3, position=6 * SECOND, reason=text),
    )
