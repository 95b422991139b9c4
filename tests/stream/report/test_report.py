"""The report: its structure by a parser, and its life in a real browser where there is one."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser

import pytest
from fakes import vote
from msgspec.structs import replace
from output_fakes import AGENT, CALL, CUSTOMER, FLAT, NOW, gap, verdict
from output_readers import written

from abhinaya.models.labels import LABELS
from abhinaya.stream.commands.main import main
from abhinaya.stream.commands.report import write_report
from abhinaya.stream.sinks.events import to_dict
from abhinaya.stream.wire.messages import Remark

VOID = {"meta", "input", "br", "link", "img"}
SHAPES = ("rect", "line")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
in_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium: apt-get install chromium"
)


class Page(HTMLParser):
    """Elements with their attributes and text; whatever is not closed in order is an error."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.elements, self._open = [], []
        self.feed(source)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attributes):
        element = {"tag": tag, "text": "", **dict(attributes)}
        self.elements.append(element)
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):
            self._open.append(element)

    def handle_endtag(self, tag):
        if tag in SHAPES and (not self._open or self._open[-1]["tag"] != tag):
            return
        assert self._open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data

    def all(self, tag, **attributes):
        return [
            e
            for e in self.elements
            if e["tag"] == tag and all(e.get(k) == v for k, v in attributes.items())
        ]


def reported(tmp_path, events=CALL):
    source = written(tmp_path / "events.jsonl", events)
    write_report(source, tmp_path / "events.html")
    return Page((tmp_path / "events.html").read_text("utf-8"))


def test_the_page_loads_nothing_and_forbids_it(tmp_path):
    page = reported(tmp_path)
    for element in page.elements:
        assert not {"src", "href", "srcset", "data", "action"} & set(element)
        assert not [name for name in element if name.startswith("on")]
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none'")
    source = (tmp_path / "events.html").read_text("utf-8")
    assert not re.search(r"url\(|@import|https?://", source)


def test_everything_that_was_said_is_there_once_and_as_text(tmp_path):
    page = reported(tmp_path)
    said = [e["text"] for e in page.all("span") if "said" in e.get("class", "")]
    assert said == ["some words", "some words", FLAT, "not heard: the backlog was full", "no words"]
    assert not [e for e in page.all("b") if e.get("class") != "missing"], "no markup of speakers"
    assert [e["text"] for e in page.all("b")] == ["ST1 missing: no answer within 4 s"] * 4


def test_labels_are_written_beside_their_colour_and_troubles_are_named(tmp_path):
    page = reported(tmp_path)
    marks = [e for e in page.all("span") if e.get("class", "").startswith("mark ")]
    assert len(marks) > 10
    assert all(e["class"] == f"mark e-{e['text']}" for e in marks)
    rows = [e["text"] for e in page.all("li") if e.get("class", "").startswith("e-")]
    assert {"angry", "happy", "surprise", "gap"} <= set(rows)
    pictures = page.all("svg")
    assert [picture["role"] for picture in pictures] == ["img", "img"]
    assert pictures[0]["aria-label"].startswith(f"Timeline of {AGENT}: surprise 74%")
    text = page.all("main")[0]["text"]
    for part in (
        "0:20my call/agent1.5 sthe backlog was full",
        "S1-0 was down: killed",
        "call.wav: has 3 damaged packets",
    ):
        assert part in text


def test_the_numbers_are_those_of_the_call(tmp_path):
    events = (
        *CALL[:2],
        verdict(0, 0, 10, "sad"),
        verdict(1, 10, 20, "sad"),
        verdict(2, 70, 80, "happy"),
        verdict(0, 15, 25, "angry", CUSTOMER),
        gap(1, 30, 35, CUSTOMER),
    )
    page = reported(tmp_path, events)
    first = next(t for t in page.all("table") if t["text"].startswith("Share of speech"))
    assert "sad67%20.0 s20.0 s from 0:00100%" in first["text"]
    talk = next(t for t in page.all("table") if t["text"].startswith("Who talks"))["text"]
    assert "agent75%30.0 s20" in talk
    assert "customer25%10.0 s11" in talk
    votes = next(t for t in page.all("table") if t["text"].startswith("Votes"))["text"]
    for part in ("S1fake4100%", "T2fake40%", "4 times no answer within 4 s"):
        assert part in votes
    facts = {dt["text"]: dd["text"] for dt, dd in zip(page.all("dt"), page.all("dd"), strict=True)}
    assert facts.items() >= {"length": "1:20", "not heard": "5.0 s", "segments": "5"}.items()


def test_names_of_streams_and_voters_cannot_become_markup(tmp_path):
    evil = '<script>alert(1)</script>" onload="x'
    bad = replace(vote(0, evil, "sad"), model=evil)
    named = verdict(0, 0, 1, evil, evil, evil, votes=(bad,), reason=evil)
    page = reported(tmp_path, (named, gap(1, 2, 3, evil, evil), Remark(source=evil, text=evil)))
    assert len(page.all("script")) == 1
    assert not [e for e in page.elements if "onload" in e]
    assert [e["text"] for e in page.all("h3")] == [evil]
    assert page.all("main")[0]["text"].count(evil) > 10
    silent = reported(tmp_path, (CALL[0], CALL[-2]))
    assert silent.all("main")[0]["text"].count("No speech was found.") == 2


def long_call(path, hours=8):
    """Write a call of two channels with planted moods."""
    dice = random.Random(3)
    with path.open("wb") as file:
        for name in (AGENT, CUSTOMER):
            at_s, i = 0.0, 0
            while at_s < hours * 3600:
                start_s = at_s + dice.uniform(0.5, 3)
                at_s = start_s + dice.uniform(1, 10)
                event = verdict(i, start_s, at_s, dice.choice(LABELS), name, FLAT)
                file.write(json.dumps(to_dict(event, NOW)).encode() + b"\n")
                i += 1
    return path


def test_eight_hours_have_a_thin_timeline(tmp_path):
    source = long_call(tmp_path / "long.jsonl")
    begun = time.process_time()
    write_report(source, tmp_path / "long.html")
    assert time.process_time() - begun < 10
    html = (tmp_path / "long.html").read_text("utf-8")
    assert html.count("<li class") > 7000, "every word is there"
    assert html.count("<rect") < 2 * (1024 * 8 + 2000)


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["no.jsonl"], 3, "no such file"),
        (["empty.jsonl"], 3, "holds no stream"),
        (["events.jsonl", "-o", "events.jsonl"], 4, "is the source itself"),
        (["events.jsonl", "-o", "."], 4, "is a folder"),
        (["events.jsonl", "-o", "nowhere/x.html"], 4, "missing folder"),
    ],
)
def test_faults_are_told_in_a_line(tmp_path, monkeypatch, capsys, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "events.jsonl")
    (tmp_path / "empty.jsonl").touch()
    assert main(["report", *arguments]) == code
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_the_page_goes_beside_the_events_and_its_name_is_printed(tmp_path, capsys):
    written(tmp_path / "events.jsonl")
    assert main(["report", str(tmp_path / "events.jsonl")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "events.html")
    assert (tmp_path / "events.html").stat().st_size > 5000


# --- a real browser -------------------------------------------------------------------------------


def browse(page, tmp_path, *flags):
    """Open a page in headless Chromium with nothing around it; give its DOM and its log."""
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
        *flags, page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


@in_chromium
@pytest.mark.processes
def test_chromium_filters_the_transcript(tmp_path):
    reported(tmp_path)
    page = tmp_path / "events.html"
    drive = (
        "by('label').value='e-angry';by('label').dispatchEvent(new Event('input',{bubbles:true}));"
        "by('theme').click();"
    )
    # the policy allows only the page's own script: this test brings one, so it lifts the policy
    source = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text("utf-8"))
    page.write_text(source.replace("</script>", f"{drive}</script>"), "utf-8")
    dom, _ = browse(page, tmp_path, "--virtual-time-budget=2000")
    rows = re.findall(r'<li class="(e-[a-z]+)"( hidden="")?><time>', dom)
    assert len(rows) == 5
    assert all(bool(hidden) == (label != "e-angry") for label, hidden in rows)
    assert "1 found" in dom
    assert 'data-theme="' in dom


@in_chromium
@pytest.mark.processes
def test_chromium_runs_the_page_without_a_complaint_and_refuses_a_script_of_others(tmp_path):
    reported(tmp_path)
    page = tmp_path / "events.html"
    dom, log = browse(page, tmp_path)
    assert re.search(r'<form class="filters">', dom), "the script ran: the filters are shown"
    assert not [line for line in log.splitlines() if "CONSOLE" in line]
    evil = "<script>document.title='taken'</script></body>"
    page.write_text(page.read_text("utf-8").replace("</body>", evil), "utf-8")
    dom, _ = browse(page, tmp_path)
    assert "<title>taken</title>" not in dom


@pytest.mark.slow
@in_chromium
@pytest.mark.processes
def test_eight_hours_open_in_three_seconds(tmp_path):
    """Compared with an empty page, since Chromium takes a while itself; the best of three."""
    write_report(long_call(tmp_path / "long.jsonl"), tmp_path / "long.html")
    (tmp_path / "empty.html").write_text("<!doctype html><title>x</title>")

    def took(name):
        begun = time.monotonic()
        browse(tmp_path / name, tmp_path, f"--screenshot={tmp_path / 'shot.png'}")
        return time.monotonic() - begun

    empty = min(took("empty.html") for _ in range(2))
    assert min(took("long.html") for _ in range(3)) - empty < 3.0
