"""No name, word or title controls an output: one set of hostile text through all of them."""

from __future__ import annotations

import csv
import html
import io
import json
import logging
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
import srt
import webvtt
from fakes import patient
from hostile_text import HOSTILE, events, hidden
from hypothesis import given, settings
from hypothesis import strategies as st
from output_fakes import NOW, gap, verdict
from output_readers import written
from praatio import textgrid
from pyannote.database.util import load_rttm
from rich.console import Console
from scripted_server import Say, scripted

from abhinaya.models.text import clean, encodable, one_line
from abhinaya.stream import log
from abhinaya.stream.commands.report import write_report
from abhinaya.stream.settings.rules import RuleConfig
from abhinaya.stream.sinks.alerts.command import Command
from abhinaya.stream.sinks.alerts.sink import Alerts
from abhinaya.stream.sinks.alerts.webhook import Webhook
from abhinaya.stream.sinks.alerts.worker import AlertSender
from abhinaya.stream.sinks.base import publish
from abhinaya.stream.sinks.export.formats import export
from abhinaya.stream.sinks.lines import Lines
from abhinaya.stream.sinks.live.view import View
from abhinaya.stream.sinks.logged import Logged
from abhinaya.stream.wire.codec import Decoder, Encoder
from abhinaya.stream.wire.messages import Event, Message, Notice

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""Colours and movements of the cursor: of our own; those of the text are not left as such."""


def console(terminal: bool) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    size = {"width": 90, "height": 40}
    return Console(file=file, force_terminal=terminal, color_system="truecolor", **size), file


def drawn(sink: Any, file: io.StringIO, text: str) -> str:
    """Return what a display shows, without its own codes."""
    for event in events(text):
        publish([sink], event, NOW)
    sink.trouble(text)
    sink.close()
    return CODES.sub("", file.getvalue()).replace("\r", "")


def check_lines(folder: Path, text: str) -> None:
    for terminal in (False, True):
        made, file = console(terminal)
        shown = drawn(Lines(made), file, text)
        assert not hidden(shown)
        if not terminal:
            assert sum(line.startswith("summary  A") for line in shown.split("\n")) >= 2
            assert one_line(text) in one_line(shown), "the words are still there"


def check_view(folder: Path, text: str) -> None:
    made, file = console(True)
    assert not hidden(drawn(View(made, always=True), file, text))


def check_jsonl(folder: Path, text: str) -> None:
    raw = (folder / "x.jsonl").read_text("utf-8")
    assert not hidden(raw), "as an escape"
    lines = raw.split("\n")
    found = {one["type"]: one for one in map(json.loads, lines[:-1])}
    assert len(lines) == len(events(text)) + 2, "and the summary"
    assert found["remark"]["text"] == found["gap"]["reason"] == encodable(text)
    assert found["stream_ended"]["stream"] == encodable(f"A{text}Z")


def check_csv(folder: Path, text: str) -> None:
    export(folder / "x.jsonl", folder / "x.csv")
    raw = (folder / "x.csv").read_bytes().decode("utf-8")
    assert not hidden(raw, "\r\n")
    rows = list(csv.DictReader(io.StringIO(raw, newline=""), strict=True))
    assert [row["type"] for row in rows] == ["verdict", "verdict", "gap"]
    for row in rows:
        assert None not in row
        assert not [cell for cell in row.values() if cell.strip()[:1] in "=+-@＝" and cell.strip()]  # noqa: RUF001
    assert rows[0]["transcript"] in (one_line(text), f"'{one_line(text)}")
    assert rows[0]["stream"] == one_line(f"A{text}Z")


def check_parquet(folder: Path, text: str) -> None:
    export(folder / "x.jsonl", folder / "x.parquet")
    rows = pq.read_table(folder / "x.parquet").to_pylist()
    assert [row["stream"] for row in rows] == [encodable(f"A{text}Z")] * 3
    assert rows[0]["transcript"] == rows[2]["reason"] == encodable(text)


def check_vtt(folder: Path, text: str) -> None:
    export(folder / "x.jsonl", folder / "x.vtt")
    raw = (folder / "x.vtt").read_text("utf-8")
    assert not hidden(raw)
    cues = webvtt.read(folder / "x.vtt").captions
    assert [(c.start, c.end) for c in cues] == [
        ("00:00:00.000", "00:00:02.000"),
        ("00:00:03.000", "00:00:04.000"),
        ("00:00:04.000", "00:00:05.000"),
    ]
    for cue in cues:
        tags = re.findall(r"<[^>]*>", cue.raw_text)
        assert [re.split(r"[ .>]", tag)[0] for tag in tags[:1]] == ["<v"]
        assert {re.split(r"[ .>]", tag)[0] for tag in tags[1:]} <= {"<c", "</c", "<i", "</i"}
    assert html.unescape(cues[0].voice) == one_line(f"A{text}Z")
    assert raw.count("-->") == 3


def check_srt(folder: Path, text: str) -> None:
    export(folder / "x.jsonl", folder / "x.srt")
    raw = (folder / "x.srt").read_text("utf-8")
    assert not hidden(raw)
    cues = list(srt.parse(raw, ignore_errors=False))
    assert [cue.index for cue in cues] == [1, 2, 3]
    assert not re.search(r"<|\{", raw)
    assert all("\n" not in cue.content for cue in cues)


def check_rttm(folder: Path, text: str) -> None:
    export(folder / "x.jsonl", folder / "x.rttm")
    raw = (folder / "x.rttm").read_text("utf-8")
    assert not hidden(raw)
    lines = raw.removesuffix("\n").split("\n")
    assert [len(line.split(" ")) for line in lines] == [10] * 3
    assert len(load_rttm(folder / "x.rttm")) == 1


def test_a_quote_at_the_beginning_of_a_name_is_a_quote(tmp_path: Path) -> None:
    for first in HOSTILE.values():
        stream = f'"{first}'
        both = (verdict(0, 0.0, 1.0, "sad", stream), gap(1, 1.0, 2.0, stream))
        load = load_rttm(written(tmp_path / "x.rttm", both))
        assert len(load) == 1


def check_audacity(folder: Path, text: str) -> None:
    export(folder / "x.jsonl", folder / "x.txt")
    raw = (folder / "x.txt").read_text("utf-8")
    assert not hidden(raw, "\n\t")
    lines = raw.removesuffix("\n").split("\n")
    assert [len(line.split("\t")) for line in lines] == [3] * 3


def check_textgrid(folder: Path, text: str) -> None:
    export(folder / "x.jsonl", folder / "x.TextGrid")
    assert not hidden((folder / "x.TextGrid").read_text("utf-8"))
    grid = textgrid.openTextgrid(str(folder / "x.TextGrid"), True, reportingMode="error")
    assert len(grid.tierNames) == 7
    label = grid.getTier(one_line(f"A{text}Z: label"))
    assert [e.label for e in label.entries if e.label] == ["happy", "unknown", "(gap)"]


class Page(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(sorted(name for name, _ in attributes))))

    def handle_data(self, data: str) -> None:
        self.text += data


def report_of(folder: Path, text: str) -> str:
    source = written(folder / "report.jsonl", events(text))
    write_report(source, folder / "report.html")
    return (folder / "report.html").read_text("utf-8")


def check_report(folder: Path, text: str) -> None:
    page = report_of(folder, text)
    assert not hidden(page)
    found, plain = Page(page), Page(report_of(folder, "plain"))
    assert set(found.tags) == set(plain.tags), "no element or attribute is made of data"
    assert found.tags.count(("script", ())) == 1
    assert one_line(text) in one_line(found.text)


def check_log(folder: Path, text: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "f", 1, "%s", (text,), None)
    assert not hidden(log.Text("main").format(record), "")
    line = log.Json("main").format(record)
    assert not hidden(line, "")
    assert json.loads(line)["message"] == encodable(text)
    lines: list[str] = []
    handler = logging.Handler()
    handler.setFormatter(log.Text("main"))
    handler.emit = lambda record: lines.append(handler.format(record))  # type: ignore[method-assign]
    logger = logging.getLogger("abhinaya.run")
    before, logger.level = logger.level, logging.DEBUG
    logger.addHandler(handler)
    try:
        for event in events(text):
            Logged().write(event, NOW)
    finally:
        logger.removeHandler(handler)
        logger.level = before
    assert len(lines) >= 7
    assert not hidden("".join(lines), "")


def check_wire(folder: Path, text: str) -> None:
    for number, event in enumerate(events(text[:1000] or "x")):  # the wire limits names
        frames = Encoder().encode(Notice(hub="h", number=number, event=event))
        decoder: Decoder[Message] = Decoder(Notice)
        found = decoder.decode(frames).event  # type: ignore[union-attr]
        assert type(found) is type(event)
        assert msgspec.json.encode(found), "no surrogates"


CHECKS: tuple[Callable[[Path, str], None], ...] = (
    check_jsonl, check_csv, check_parquet, check_vtt, check_srt, check_rttm, check_audacity,
    check_textgrid, check_report, check_lines, check_view, check_log, check_wire,
)  # fmt: skip


def check_all(folder: Path, text: str) -> None:
    written(folder / "x.jsonl", events(text))
    for check in CHECKS:
        check(folder, text)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_text_in_every_output(tmp_path: Path, text: str) -> None:
    check_all(tmp_path, text)


any_text = st.text(
    st.one_of(st.characters(), st.sampled_from("".join(HOSTILE.values())[:900])), max_size=40
)
"""Surrogates too."""


@settings(patient, max_examples=12)
@given(any_text)
def test_any_text_is_text_in_every_output(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check_all(Path(folder), text)


@given(any_text)
def test_clean_text_stays_as_it_is_and_shows_all_that_is_printable(text: str) -> None:
    once = clean(text)
    assert not hidden(once, "")
    assert clean(once) == once
    assert once == text or not text.isprintable()
    encodable(text).encode()


# --- alerts ---------------------------------------------------------------------------------------


def alerted(text: str, sender: AlertSender) -> list[Event]:
    rule = RuleConfig(name=text, label="happy", cool_down_s=0.0)
    made, file = console(True)
    notes = Notes()
    lines = Lines(made)
    alerts = Alerts([rule], [lines, notes], {text: [sender]})
    for event in events(text):
        alerts.write(event, NOW)
    alerts.close()
    assert "alert" in file.getvalue()
    assert not hidden(CODES.sub("", file.getvalue()))
    return notes.seen


class Notes:
    def __init__(self) -> None:
        self.seen: list[Event] = []

    def write(self, event: Event, now_unix_s: float) -> None:
        self.seen.append(event)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with scripted(lambda i, request: Say()) as found:
        yield found


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_webhook_gets_hostile_text_as_json(server: Any, text: str) -> None:
    server.requests.clear()
    assert alerted(text, Webhook(f"{server.url}/x", b"", 5.0, 1)) == []
    (body,) = server.requests
    assert body["rule"] == body["text"] == encodable(text)
    assert body["stream"] == encodable(f"A{text}Z")


def test_a_command_gets_hostile_text_as_json_and_never_by_a_shell(tmp_path: Path) -> None:
    action = tmp_path / "action.py"
    action.write_text(
        f"import sys; open({str(tmp_path / 'got')!r}, 'ab').write(sys.stdin.buffer.read() + b'\\n')"
    )
    for text in HOSTILE.values():
        arguments = (sys.executable, "-S", str(action), "$(id)", encodable(text).replace("\0", ""))
        assert alerted(text, Command(arguments, 10.0)) == []
    lines = (tmp_path / "got").read_text("utf-8").split("\n")
    assert [json.loads(line)["text"] for line in lines[:-1]] == [*map(encodable, HOSTILE.values())]
    assert not hidden("".join(lines))


def test_what_a_command_writes_is_quoted_harmlessly_and_not_kept(tmp_path: Path) -> None:
    action = tmp_path / "action.py"
    action.write_text(
        "import os\n"
        "for _ in range(40): os.write(2, b'x' * 65536)\n"
        "os.write(2, b'\\nno \\x1b[2Jdesk\\xff'); raise SystemExit(3)"
    )
    made, file = console(True)
    rule = RuleConfig(name="r", label="happy")
    alerts = Alerts([rule], [Lines(made)], {"r": [Command((sys.executable, str(action)), 30.0)]})
    for event in events("x"):
        alerts.write(event, NOW)
    alerts.close()
    shown = " ".join(CODES.sub("", file.getvalue()).split())
    assert "left with 3: no \\x1b[2Jdesk" in shown
    assert threading.active_count() < 50
