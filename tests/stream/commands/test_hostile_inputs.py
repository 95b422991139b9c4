"""Hostile text comes in: its names can be sent, shown and told apart, and errors are clean."""

from __future__ import annotations

import io
import json
import os
import shutil
import tomllib
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from fakes import config
from feed_fakes import item, rss
from hostile_text import HOSTILE, events, hidden
from output_fakes import NOW
from output_readers import READERS

from abhinaya.bench.demo import CALL
from abhinaya.models.command_line import Parser
from abhinaya.models.errors import RunError
from abhinaya.models.served.replies import Abstention, NonsenseError, judge, read_reply
from abhinaya.models.text import clean, distinct, encodable, pack, say, unpack
from abhinaya.models.toml import as_toml
from abhinaya.stream.commands import main as commands
from abhinaya.stream.commands import stream as cli
from abhinaya.stream.errors import ConfigError, SourceError
from abhinaya.stream.feeds.parse import parse_feed
from abhinaya.stream.run.plan import name_of_input
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.settings.rules import RuleConfig
from abhinaya.stream.sinks.base import publish
from abhinaya.stream.sinks.open import open_sinks
from abhinaya.stream.sources.address import check_address, name_of, shown
from abhinaya.stream.wire.child import leave_fault, read_faults

texts = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)


@texts
def test_errors_are_one_clean_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(error: BaseException) -> int:
        raise error

    for error in (
        SourceError(text, text, "x" + text),
        RunError(text, text),
        ValueError(text),
    ):
        assert cli.guarded("abhinaya-stream", lambda: fails(error)) > 0  # noqa: B023
    assert commands.main([text or "x"]) != 0 or text in ("", "--help")
    with pytest.raises(SystemExit):
        Parser("abhinaya x").parse_args([f"x{text}"])
    with pytest.raises(SystemExit):
        Parser("abhinaya x").parse_args([f"--x{text}"])
    say(text)
    out, err = capsys.readouterr()
    assert not hidden(err)
    assert not hidden(out)
    assert err.count("\n") == 6


@texts
def test_names_of_files_and_addresses_can_be_sent_and_shown(text: str) -> None:
    name = os.fsdecode(os.fsencode(encodable(text).replace("/", "").replace("\0", "")) + b"\xff")
    for found in (name_of_input(f"{name}.wav"), name_of_input(f"http://h/{encodable(text)}.mp3")):
        assert found.encode()
    assert not hidden(shown(f"http://u:p@h/{text}?{text}"), "")
    assert not hidden(name_of(f"http://h/{text}.mp3"), "")
    if encodable(text) != text:
        with pytest.raises(SourceError, match="is not UTF-8"):
            check_address(f"http://h/{text}.mp3")


def test_a_terminal_without_a_character_gets_its_escape() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    say("Grüße 漢 \x1b", file=file)
    assert file.buffer.getvalue() == b"Gr\\xfc\\xdfe \\u6f22 \\x1b\n"  # type: ignore[attr-defined]


def test_names_that_look_alike_are_told_apart() -> None:
    alike = ["a", "a\u200b", "a\ufeff", "a-2", "\\x1b", "\x1b", "\udcff", "\\xff", " ", "\t"]
    found = distinct(alike)
    assert len({clean(name) for name in found}) == len(alike)
    assert found[0] == "a"
    assert [name.encode() for name in found]


@texts
def test_titles_of_feeds_become_clean_names(text: str) -> None:
    # XML has no control characters; a lenient parser may get them all the same
    title = escape(encodable(text))
    for feed in (
        rss([item(1, "http://h/1.mp3", title=encodable(text))], title=encodable(text)),
        f"<?xml version='1.0'?><feed xmlns='http://www.w3.org/2005/Atom'><title>{title}</title>"
        f"<entry><id>1</id><title>{title}</title>"
        "<link rel='enclosure' type='audio/mpeg' href='http://h/1.mp3'/></entry></feed>".encode(),
    ):
        data = feed if isinstance(feed, bytes) else feed.encode()
        try:
            (episode,) = parse_feed(data, "http://h/feed", "feed")
        except SourceError:
            continue  # not XML at all
        assert not hidden(episode.stream, "")
        assert 0 < len(episode.stream) < 200


@texts
def test_replies_of_a_chat_server_become_reasons(text: str) -> None:
    for message in ({"content": text}, {"content": None, "refusal": text}):
        body = json.dumps({"choices": [{"message": message}]}).encode()
        try:
            answer = judge(read_reply(body))
        except NonsenseError as error:
            answer = Abstention(str(error))
        if isinstance(answer, Abstention):
            assert 0 < len(answer.reason) < 500
            assert not hidden(answer.reason, "")


@texts
def test_settings_survive_the_way_to_the_processes_and_into_a_profile(text: str) -> None:
    rules = (RuleConfig(name=text, label="happy", stream=text, command=(text, text)),)
    run = config(profile=text, rules=rules)
    assert configuration.decode(configuration.encode(run)) == run
    written = as_toml(text, run, {"profile": text})
    assert not hidden(written)
    assert tomllib.loads(written)["profile"] == encodable(text)


@texts
def test_the_error_of_an_input_reaches_the_main_process(tmp_path: Path, text: str) -> None:
    leave_fault(tmp_path, "front-0", encodable(text), ConfigError(text, text, text))
    ((name, error),) = read_faults(tmp_path)
    assert (name, error.subject, error.reason) == (encodable(text), text, text)
    assert unpack(pack((text,)), tuple[str]) == (text,)


@pytest.mark.parametrize("suffix", [*READERS, ".jsonl"])
@pytest.mark.parametrize(
    "name",
    ["bad\udcff", "a\x1b\nb", "--output", "..", "x" * 240, "é" * 120, "$(touch y)"],
    ids=ascii,
)
def test_a_file_may_have_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, suffix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(f"{name}{suffix}")
    sinks = open_sinks("jsonl", [path])
    for event in events("x"):
        publish(sinks.all[:-1], event, NOW)  # the last is standard output
    sinks.close()
    assert os.listdir() == [path.name]
    path.rename(f"y{suffix}")  # for the readers, which want names in UTF-8
    assert suffix == ".jsonl" or len(READERS[suffix](Path(f"y{suffix}"))) == 3


@pytest.mark.processes
def test_a_file_whose_name_is_not_utf8_does_not_take_the_others_down(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = ["good.wav", "bad\udcff.wav", "bad\\xff.wav", "a\x1b[2J\u202e\n=1.wav"]
    for name in names:
        shutil.copy(CALL, tmp_path / name)
    (tmp_path / "no\udcff.wav").write_text("text")
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    code = cli.main([*files, "--format", "jsonl", "--output", str(tmp_path / "x\udcff.vtt")])
    out, err = capfd.readouterr()
    assert code == SourceError.exit_code, "of the text"
    assert not hidden(out)
    assert not hidden(err)
    assert r"no\xff.wav: is text, not audio" in err
    found = [json.loads(line) for line in out.splitlines()]
    labels: dict[str, list[str]] = {}
    for event in found:
        if event["type"] == "verdict" and event["revision"] == 0 and event["final"]:
            labels.setdefault(event["stream"], []).append(event["label"])
    assert len(labels) == 4
    assert len({tuple(each) for each in labels.values()}) == 1, "all are processed alike"
    assert {r"bad\xff", r"bad\xff-2", "good"} < set(labels)
    assert (tmp_path / "x\udcff.vtt").read_text("utf-8").count("-->") == sum(
        len(each) for each in labels.values()
    )
