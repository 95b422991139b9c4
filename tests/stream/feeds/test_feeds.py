"""Feeds in parts: read, remembered, fetched."""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from feed_fakes import atom, item, rss
from hypothesis import given
from hypothesis import strategies as st
from media_server import Download, Site, redirect, say, site

from abhinaya.stream.errors import ConfigError, SinkError, SourceError
from abhinaya.stream.feeds.follow import FeedRequest, Feeds, download
from abhinaya.stream.feeds.parse import Episode, parse_feed, unpacked
from abhinaya.stream.feeds.store import Folders, Record, temporary_folder
from abhinaya.stream.settings.config import FeedConfig, NetworkConfig
from abhinaya.stream.sources import open_source
from abhinaya.stream.sources.base import InputConfig
from abhinaya.stream.sources.web import Web

QUICK = NetworkConfig(
    connect_s=5.0, stall_s=1.0, first_pause_s=0.02, longest_pause_s=0.1, give_up_s=3.0
)
WHERE = "http://example.org/shows/feed.xml"


@pytest.fixture
def web() -> Iterator[Site]:
    with site() as server:
        yield server


def parsed(data: bytes) -> tuple[Episode, ...]:
    return parse_feed(data, WHERE, "feed x")


# --- reading --------------------------------------------------------------------------------------


def test_rss_is_read_the_newest_first() -> None:
    found = parsed(rss([item(n, f"http://example.org/{n}.mp3") for n in (1, 3, 2)]))
    assert [e.guid for e in found] == ["guid-3", "guid-2", "guid-1"]
    assert found[0].stream == "Talk: Episode 3"
    assert found[0].url == "http://example.org/3.mp3"
    assert found[0].published_unix_s == 1704276000.0  # 3 January 2024, 10:00 UTC (date -d)


def test_of_a_feed_that_is_cut_off_only_whole_entries_are_read_and_it_is_said() -> None:
    data = rss([item(n, f"http://example.org/{n}.mp3") for n in (3, 2, 1)])
    whole = parsed(data)
    for at in range(data.index(b"</item>") + 7, data.rindex(b"</rss>") + 6):
        said: list[str] = []
        found = parse_feed(data[:at], WHERE, "feed x", warn=said.append)
        ends = data[:at].count(b"</item>")
        assert found == whole[:ends]
        assert "is cut off" in said[0]
        assert ("left out" in said[0]) == (data[:at].count(b"<item>") > ends)


def test_atom_is_read_and_relative_addresses_are_made_whole() -> None:
    found = parsed(atom(["a.mp3", "/b.mp3", "../c.mp3", "//cdn.example.org/d.mp3"]))
    assert [e.url for e in found] == [
        "http://cdn.example.org/d.mp3",
        "http://example.org/c.mp3",
        "http://example.org/b.mp3",
        "http://example.org/shows/a.mp3",
    ]
    assert {e.stream for e in found} == {f"Atomic: Part {n}" for n in range(4)}


def test_undated_episodes_stay_in_the_order_of_the_feed() -> None:
    items = [item(n, f"http://x/{n}.mp3").replace("pubDate", "other") for n in (5, 4, 9)]
    assert [e.guid for e in parsed(rss(items))] == ["guid-5", "guid-4", "guid-9"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html><body>No podcast</body></html>", "is a web page, not a feed"),
        (b"hello", "is not a feed"),
        (b"\xff\xfe\x00\x01" * 50, "is not a feed"),
        (b"{}", "is not a feed"),
        (rss([]), "has no sound in its 0 entries"),
        (rss(["<item><title>text only</title></item>"]), "has no sound in its 1 entries"),
        (rss([item(1, "http://x/cover.jpg", kind="image/jpeg")]), "has no sound"),
        (rss([item(1, "file:///etc/passwd")]), "has no sound"),
        (rss([item(1, "http://[bad/x.mp3")]), "has no sound"),
    ],
)
def test_what_is_no_podcast_is_said(data: bytes, words: str) -> None:
    with pytest.raises(SourceError) as caught:
        parsed(data)
    assert words in caught.value.reason
    assert caught.value.remedy


def test_entities_that_multiply_are_refused_before_they_are_read() -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "' + "ha" * 1000 + '">'
    bomb += "".join(
        f'<!ENTITY {c} "{f"&{p};" * 100}">' for p, c in zip("abcd", "bcde", strict=True)
    )
    data = f"<?xml version='1.0'?>{bomb}]><rss><channel><title>&e;</title></channel></rss>"
    begun = time.monotonic()
    with pytest.raises(SourceError, match="declares XML entities"):
        parsed(data.encode())
    assert time.monotonic() - begun < 2


def test_a_missing_guid_is_made_of_the_address() -> None:
    found = parsed(rss([item(n, f"http://u:pw@x/{n}.mp3?k={n}", None) for n in (1, 2)]))
    assert [e.guid for e in found] == ["http://x/2.mp3?…", "http://x/1.mp3?…"]


def test_one_guid_for_several_sounds_is_told_apart_and_a_double_is_dropped() -> None:
    same = [item(n, f"http://x/{n}.mp3", "same", "Talk") for n in (1, 2, 2, 3)]
    found = parsed(rss(same))
    assert [e.url[-5:] for e in found] == ["3.mp3", "2.mp3", "1.mp3"]
    assert all(e.shared_guid for e in found)
    assert len({e.stream for e in found}) == len({e.key for e in found}) == 3


def test_names_are_bounded_and_harmless() -> None:
    title = "A/B\n\x1b[31m" + "x" * 500
    [episode] = parsed(rss([item(1, "http://x/1.mp3", title=title.replace("\x1b", ""))]))
    assert len(episode.stream) < 200
    assert "/" not in episode.stream
    assert episode.stream.isprintable()


XHTML = "xmlns='http://www.w3.org/1999/xhtml'"
ITUNES = "xmlns:itunes='http://www.itunes.com/dtds/podcast-1.0.dtd'"


def title_of(markup: str, *, atom: bool = False) -> str:
    sound = "<enclosure url='http://x/1.mp3' type='audio/mpeg'/>"
    data = f"<rss version='2.0' {ITUNES}><channel><title>F</title><item>{markup}{sound}</item>"
    data += "</channel></rss>"
    if atom:
        sound = "<link rel='enclosure' href='http://x/1.mp3' type='audio/mpeg'/>"
        data = "<feed xmlns='http://www.w3.org/2005/Atom'><title>F</title>"
        data += f"<entry>{markup}{sound}</entry></feed>"
    [episode] = parsed(f"<?xml version='1.0' encoding='utf-8'?>{data}".encode())
    assert episode.stream == f"F: {episode.title}"
    return episode.title


@pytest.mark.parametrize(
    ("markup", "title"),
    [
        ("<title>Tom &amp; Jerry</title>", "Tom & Jerry"),
        ("<title>Tom &amp;amp; Jerry</title>", "Tom & Jerry"),
        ("<title>Tom &amp;amp;amp; Jerry</title>", "Tom &amp; Jerry"),
        ("<title><![CDATA[Tom &amp; <b>Jerry</b>]]></title>", "Tom & Jerry"),
        ("<title><![CDATA[Part 1<br>of 2]]></title>", "Part 1 of 2"),
        ("<title>a&#8217;b &amp;#8217;c</title>", "a\u2019b \u2019c"),
        ("<title>1 &lt; 2 and 3 &gt; 2, I &lt;3 it</title>", "1 < 2 and 3 > 2, I <3 it"),
        ("<title>T & J &eacute;</title>", "T & J é"),
        ("<title>  a \n\t b </title>", "a b"),
        ("<title>مرحبا / שלום</title>", "مرحبا - שלום"),
        ("<title/><itunes:title>From iTunes</itunes:title>", "From iTunes"),
        ("<itunes:title>iTunes</itunes:title><title>T</title>", "T"),
        ("<title> </title>", "untitled"),
        ("<description>no title</description>", "untitled"),
        ("<title>&lt;script&gt;alert(1)&lt;/script&gt;&lt;i&gt;x&lt;/i&gt;</title>", "x"),
    ],
)
def test_a_title_of_rss_is_plain_text(markup: str, title: str) -> None:
    assert title_of(markup) == title


@pytest.mark.parametrize(
    ("markup", "title"),
    [
        ("<title type='html'>Tom &amp;amp; &lt;b&gt;J&lt;/b&gt;</title>", "Tom & J"),
        ("<title type='html'><![CDATA[A &amp; <i>b</i>]]></title>", "A & b"),
        ("<title type='html'>&amp;amp;lt;b&amp;amp;gt;</title>", "&lt;b&gt;"),
        ("<title type='text'>Tom &amp;amp; &lt;b&gt;J&lt;/b&gt;</title>", "Tom &amp; <b>J<-b>"),
        ("<title>&lt;b&gt; is a tag</title>", "<b> is a tag"),
        (
            f"<title type='xhtml'><div {XHTML}>&amp; &lt;x&gt; <b>J</b><br/>K</div></title>",
            "& <x> J K",
        ),
    ],
)
def test_a_title_of_atom_is_plain_text(markup: str, title: str) -> None:
    assert title_of(markup, atom=True) == title


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252"])
def test_a_feed_in_any_encoding(encoding: str) -> None:
    text = rss([item(1, "http://x/1.mp3", title="Grüße")]).decode()
    [found] = parsed(text.replace("'utf-8'", f"'{encoding}'").encode(encoding))
    assert found.title == "Grüße"
    bare = text.replace("<?xml version='1.0' encoding='utf-8'?>", "<?xml version='1.0'?>")
    [found] = parse_feed(bare.encode(encoding), WHERE, "feed x", encoding)
    assert found.title == "Grüße"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-7"])
def test_entities_are_refused_in_any_encoding(encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE x [<!ENTITY a "b">]><rss/>'
    with pytest.raises(SourceError, match="declares XML entities"):
        parsed(text.encode(encoding).replace(b"<!E", b"+ADw-!E" if encoding == "utf-7" else b"<!E"))


def test_a_feed_that_is_stored_as_gzip() -> None:
    data = rss([item(1, "http://x/1.mp3")])
    assert unpacked(data, 10_000, "x") == data
    packed = gzip.compress(data)
    assert unpacked(packed, 10_000, "x") == data
    for bad, words in (
        (gzip.compress(bytes(1_000_000)), "is longer than 0.01 MB when unpacked"),
        (packed[:-30], "is cut-off gzip"),
        (packed[:20] + b"?" * 40, "is damaged gzip"),
    ):
        with pytest.raises(SourceError, match=words):
            unpacked(bad, 10_000, "x")


@pytest.mark.parametrize(
    ("enclosures", "address"),
    [
        ("<enclosure url='a.mp3'/>", "http://example.org/shows/a.mp3"),
        ("<enclosure url='/a' type=''/>", "http://example.org/a"),
        ("<enclosure url='?id=7' type='audio/mpeg'/>", "http://example.org/shows/feed.xml?id=7"),
        ("<enclosure url='v.mp4' type='video/mp4'/><enclosure url='a.mp3'/>", "a.mp3"),
        ("<enclosure url='v.mp4' type='video/mp4'/>", "v.mp4"),
        ("<enclosure url='i.jpg'/><enclosure url='x.pdf'/><enclosure url='a.m4a'/>", "a.m4a"),
        ("<enclosure url='a.mp3' type='text/html'/>", "a.mp3"),
        ("<enclosure url='a.bin' type='application/octet-stream'/>", "a.bin"),
        ("<enclosure url='1.mp3'/><enclosure url='2.mp3' type='audio/mpeg'/>", "1.mp3"),
    ],
)
def test_the_sound_of_several_enclosures(enclosures: str, address: str) -> None:
    entry = item(1, "x").partition("<enclosure")[0] + enclosures + "</item>"
    [found] = parsed(rss([entry]))
    assert found.url == (address if "//" in address else f"http://example.org/shows/{address}")


def test_a_page_that_names_its_feed() -> None:
    page = b"<html><head><link rel='alternate' type='application/rss+xml' href='/pod.xml?k=1'>"
    with pytest.raises(
        SourceError, match=r"web page, not a feed; is its feed http://example.org/p"
    ):
        parsed(page)


def test_the_password_of_a_feed_is_not_part_of_an_episode() -> None:
    data = rss([item(1, "1.mp3"), item(2, "/2.mp3")])
    found = parse_feed(data, "http://joe:s3cret@example.org/feed", "feed x")
    assert all("s3cret" not in repr(e) for e in found)


@given(st.text())
def test_any_title_is_one_line_without_a_slash(text: str) -> None:
    [episode] = parsed(rss([item(1, "http://x/1.mp3", title=text)]) or b"")
    assert episode.title == " ".join(episode.title.split()) != ""
    assert "/" not in episode.title
    assert episode.title.isprintable()


@given(st.binary(max_size=300))
def test_any_bytes_are_a_feed_or_an_error(data: bytes) -> None:
    with contextlib.suppress(SourceError):
        assert parsed(data)


@given(st.data())
def test_a_damaged_feed_is_a_feed_or_an_error(data: st.DataObject) -> None:
    whole = bytearray(rss([item(n, f"http://x/{n}.mp3") for n in range(1, 4)]))
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(SourceError):
        assert all(e.url.startswith("http") for e in parsed(bytes(whole)))


# --- remembering ----------------------------------------------------------------------------------


def episode(number: int, **changes: Any) -> Episode:
    fields: dict[str, Any] = {
        "guid": f"g{number}",
        "url": f"http://x/{number}.mp3",
        "title": str(number),
        "stream": f"Talk: {number}",
        "published_unix_s": float(number),
    }
    return Episode(**(fields | changes))


def test_what_was_heard_is_remembered_though_its_address_changes(tmp_path: Path) -> None:
    record = Record(tmp_path, WHERE)
    assert not record.is_done(episode(1))
    record.add(episode(1))
    assert record.wanted([episode(8), episode(7)], 1) == [episode(8)]
    record.close()
    record = Record(tmp_path, WHERE)
    assert record.is_done(episode(1, url="http://cdn.example.org/new.mp3"))
    assert not record.is_done(episode(2))
    assert record.wanted([episode(9), episode(7)], 0) == [episode(9)]
    record.close()
    other = Record(tmp_path, WHERE + "?other")
    assert not other.is_done(episode(1))
    other.add(episode(1, guid="same", shared_guid=True))  # one guid for several sounds
    assert other.is_done(episode(1, guid="same", shared_guid=True))
    assert not other.is_done(episode(2, guid="same", shared_guid=True))
    other.close()


def test_a_feed_is_followed_by_one_run_at_a_time(tmp_path: Path) -> None:
    record = Record(tmp_path, "http://joe:s3cret@example.org/feed")
    with pytest.raises(ConfigError, match="another run uses it") as caught:
        Record(tmp_path, "http://joe:s3cret@example.org/feed")
    assert "s3cret" not in str(caught.value)
    record.add(episode(1))
    record.close()
    Record(tmp_path, "http://joe:s3cret@example.org/feed").close()
    for path in tmp_path.iterdir():
        assert "s3cret" not in path.read_text()
    assert tmp_path.stat().st_mode & 0o777 != 0


LATER = b'{"feed": "x", "version": 2}'


@pytest.mark.parametrize("content", [b"", b"{", b'{"feed": 3}', b"\xff", LATER])
def test_a_record_that_cannot_be_read_is_an_error_and_is_not_overwritten(
    tmp_path: Path, content: bytes
) -> None:
    record = Record(tmp_path, WHERE)
    record.add(episode(1))
    record.close()
    [path] = tmp_path.glob("*.json")
    path.write_bytes(content)
    words = "version 2" if content is LATER else "delete it to process all episodes again"
    with pytest.raises(SinkError, match=words):
        Record(tmp_path, WHERE)
    assert path.read_bytes() == content


KILLED = """
import sys
from pathlib import Path
from abhinaya.stream.feeds.parse import Episode
from abhinaya.stream.feeds.store import Record
record = Record(Path(sys.argv[1]), "http://x/feed")
for n in range(100000):
    record.add(Episode(f"g{n}", f"http://x/{n}", f"{n}", f"Talk: {n}", None))
    print(n, flush=True)
"""


def test_a_record_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    """What was said to be noted is noted; at most the one after it may be as well."""
    for trial in range(5):
        folder = tmp_path / str(trial)
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout
        process.stdout.readline()
        time.sleep(random.Random(trial).uniform(0.0, 0.2))
        process.kill()
        last = int(process.stdout.read().split()[-1])
        process.wait()
        record = Record(folder, "http://x/feed")
        assert all(record.is_done(episode(n)) for n in range(last + 1))
        assert not record.is_done(episode(last + 2))
        record.close()


# --- fetching -------------------------------------------------------------------------------------

SOUND = bytes(random.Random(1).randbytes(900_000))


def caller() -> Web:
    return Web("x", QUICK, lambda _: None, threading.Event())


def fetch(web: Site, tmp_path: Path, limit: int = 2_000_000) -> bytes:
    path = tmp_path / "x.audio"
    try:
        download(caller(), web.url("/x"), path, limit)
    finally:
        assert not (tmp_path / "x.part").exists()
    return path.read_bytes()


def test_a_download_that_is_cut_is_resumed(web: Site, tmp_path: Path) -> None:
    web.routes["/x"] = Download(SOUND, cuts=[300_000, 200_000, 1])
    assert fetch(web, tmp_path) == SOUND
    assert web.asked("/x")[-1]["range"] == "bytes=500001-"


def test_a_server_that_cannot_resume_is_asked_again_from_the_start(
    web: Site, tmp_path: Path
) -> None:
    web.routes["/x"] = Download(SOUND, ranges=False, cuts=[300_000, 500_000])
    assert fetch(web, tmp_path) == SOUND
    web.routes["/x"] = Download(SOUND, ranges=False, cuts=[1, 2, 3, 4])
    with pytest.raises(SourceError, match="connection was cut"):
        fetch(web, tmp_path)


def test_an_enclosure_that_shrinks_is_an_error(web: Site, tmp_path: Path) -> None:
    def shrink(download: Download) -> None:
        download.data = download.data[:600_000]

    web.routes["/x"] = Download(SOUND, cuts=[500_000], then=shrink)
    with pytest.raises(SourceError, match="had 900000 bytes, now 600000"):
        fetch(web, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("route", "words"),
    [
        (say(b""), "is empty"),
        (say(b"<html>Sorry</html>" * 20, Content_Type="audio/mpeg"), "is a web page, not audio"),
        (say(b"gone", 410), "HTTP 410"),
        (say(SOUND * 3), "is longer than 2 MB"),
    ],
)
def test_what_is_no_episode_is_said(web: Site, tmp_path: Path, route: Any, words: str) -> None:
    web.routes["/x"] = route
    with pytest.raises(SourceError) as caught:
        fetch(web, tmp_path)
    assert words in caught.value.reason
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("length", [10_000_000_000, None])
def test_a_sound_without_end_is_refused(web: Site, tmp_path: Path, length: int | None) -> None:
    sent: list[int] = []

    def route(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        if length:
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        handler.close_connection = True
        for number in range(100):
            handler.wfile.write(SOUND)
            sent.append(number)

    web.routes["/x"] = route
    with pytest.raises(SourceError, match="is longer than 2 MB"):
        fetch(web, tmp_path)
    assert len(sent) < 100
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_with_the_folder(
    web: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.routes["/x"] = say(SOUND)
    target = tmp_path / "x.part"
    os.symlink("/dev/full", target)
    with pytest.raises(SourceError) as caught:
        download(caller(), web.url("/x"), tmp_path / "x.audio", 10**9)
    assert os.strerror(errno.ENOSPC) in caught.value.reason
    assert str(tmp_path) in caught.value.remedy


def test_episodes_of_runs_that_were_killed_are_swept_away_and_those_of_others_are_not(
    tmp_path: Path,
) -> None:
    with temporary_folder(tmp_path) as mine:
        (mine / "x.audio").write_bytes(b"sound")
        dead = tmp_path / "dead"
        dead.mkdir()
        (dead / "x.audio").write_bytes(b"sound")
        with temporary_folder(tmp_path) as other:
            assert other != mine
            assert (mine / "x.audio").exists()
            assert not dead.exists()
        assert not other.exists()
    assert not mine.exists()


# --- together -------------------------------------------------------------------------------------


def feeds(tmp_path: Path, *wishes: FeedRequest, **settings: Any) -> Feeds:
    folders = Folders(tmp_path / "records", tmp_path / "cache")
    config = FeedConfig(**({"interval_s": 0.1} | settings))
    supply = Feeds(wishes, InputConfig(""), folders, config, QUICK, ["Talk: mine"])
    supply.start()
    return supply


def drain(supply: Feeds, count: int, *, whole: bool = True) -> list[str]:
    """Hear what comes, to its end or not, until so many came; return their names."""
    deadline, names = time.monotonic() + 20, []
    while len(names) < count:
        assert time.monotonic() < deadline, supply.faults()
        for name, what in supply.take():
            assert Path(what.what).exists()
            names.append(name)
            supply.ended(name, "" if whole else "broke off")
            assert not Path(what.what).exists()
        time.sleep(0.01)
    return names


def until_over(supply: Feeds) -> list[str]:
    deadline = time.monotonic() + 20
    faults: list[str] = []
    while not supply.over:
        assert time.monotonic() < deadline
        faults += [str(f) for f in supply.faults()]
        time.sleep(0.01)
    return faults + [str(f) for f in supply.faults()]


def test_a_feed_that_is_followed_gives_what_is_new_and_asks_politely(
    web: Site, tmp_path: Path
) -> None:
    items = [item(n, f"/{n}.mp3") for n in (1, 2, 3)]
    for n in range(1, 9):
        web.routes[f"/{n}.mp3"] = Download(SOUND)
    page = Download(rss(items), kind="text/xml")
    web.routes["/feed"] = page
    supply = feeds(tmp_path, FeedRequest(web.url("/feed"), newest=1, follow=True))
    assert drain(supply, 1) == ["Talk: Episode 3"]
    time.sleep(0.5)
    assert supply.take() == []
    assert page.not_modified >= 1
    page.data, page.etag = rss([*items, item(4, "/4.mp3"), item(5, "/5.mp3")]), '"two"'
    assert drain(supply, 2) == ["Talk: Episode 4", "Talk: Episode 5"]
    supply.close()
    # what came while nobody followed is heard; what was passed over is not
    page.data, page.etag = rss([*items, *(item(n, f"/{n}.mp3") for n in (4, 5, 6, 7))]), '"three"'
    supply = feeds(tmp_path, FeedRequest(web.url("/feed"), newest=1, follow=True))
    assert drain(supply, 2) == ["Talk: Episode 6", "Talk: Episode 7"]
    time.sleep(0.3)
    assert supply.take() == []
    assert not supply.over
    supply.close()
    assert not list((tmp_path / "cache").glob("*/*"))


def test_a_feed_that_fails_now_and_then_is_followed_on(web: Site, tmp_path: Path) -> None:
    web.routes["/feed"] = say(b"", 503)
    web.routes["/1.mp3"] = say(SOUND)
    supply = feeds(tmp_path, FeedRequest(web.url("/feed"), follow=True))
    time.sleep(0.4)
    assert any("HTTP 503" in str(fault) for fault in supply.faults())
    web.routes["/feed"] = say(rss([item(1, "/1.mp3")]))
    assert len(drain(supply, 1)) == 1
    supply.close()


def test_an_episode_that_fails_is_tried_again_but_not_for_ever(web: Site, tmp_path: Path) -> None:
    # another try takes a name that no other episode or input bears
    titles = ("gone", "A", "A (2)", "mine")
    items = [item(n, f"/{n}.mp3", title=title) for n, title in enumerate(titles, 1)]
    web.routes["/feed"] = say(rss(items))
    for number in (2, 3, 4):
        web.routes[f"/{number}.mp3"] = say(SOUND)
    supply = feeds(tmp_path, FeedRequest(web.url("/feed"), 4, follow=True), attempts=2)
    names = drain(supply, 6, whole=False)
    assert len({*names, "Talk: mine"}) == 7
    assert all(name.startswith(("Talk: A", "Talk: mine (")) for name in names)
    time.sleep(0.5)
    assert supply.take() == []
    assert len(web.asked("/1.mp3")) == 2
    assert all("HTTP 404" in str(f) for f in supply.faults())
    supply.close()


@pytest.mark.parametrize(
    ("route", "words"),
    [
        (None, "HTTP 404"),
        (say(b"<html>Hello</html>" * 9), "is a web page, not a feed"),
        (say(rss([item(1, "/gone.mp3")])), "HTTP 404"),
        (say(b"<rss>" + b" " * 200_000), "longer than 0.1 MB"),
    ],
)
def test_a_feed_that_is_none_ends_with_the_reason(
    web: Site, tmp_path: Path, route: Any, words: str
) -> None:
    if route is not None:
        web.routes["/feed"] = route
    url = web.url("/feed", user="joe:s3cret@")
    supply = feeds(tmp_path, FeedRequest(url), max_feed_mb=0.1)
    [fault] = until_over(supply)
    assert words in fault
    assert "s3cret" not in fault
    supply.close()


def guarded(route: Any) -> Any:
    """A route that wants the user joe and the password s3cret."""

    def answer(handler: Any) -> None:
        right = handler.headers.get("Authorization") == "Basic am9lOnMzY3JldA=="
        (route if right else say(b"", 401))(handler)

    return answer


def test_the_password_of_a_feed_goes_to_its_origin_and_to_no_other(
    web: Site, tmp_path: Path
) -> None:
    with site() as other:
        items = [
            item(1, web.url("/same")), item(2, "/relative"), item(3, other.url("/other")),
            item(4, web.url("/away")), item(5, web.url("/moved")),
        ]  # fmt: skip
        web.routes["/feed"] = guarded(say(rss(items)))
        for path in ("/same", "/relative", "/here"):
            web.routes[path] = guarded(say(SOUND))
        web.routes["/moved"] = guarded(redirect("/here"))
        web.routes["/away"] = guarded(redirect(other.url("/caught")))
        other.routes["/other"] = other.routes["/caught"] = say(SOUND)
        supply = feeds(tmp_path, FeedRequest(web.url("/feed", user="joe:s3cret@"), 5), parallel=5)
        assert len(drain(supply, 5)) == 5
        assert until_over(supply) == []
        supply.close()
        assert {path for path, _ in other.requests} == {"/other", "/caught"}
        assert all("authorization" not in headers for _, headers in other.requests)
    [record] = (tmp_path / "records").glob("*.json")
    assert "s3cret" not in record.read_text()


def test_a_feed_that_has_moved_is_read_and_said_once(web: Site, tmp_path: Path) -> None:
    web.routes["/old"] = say(b"", 301, Location="/feed?token=s3cret")
    web.routes["/feed"] = say(rss([item(1, "/1.mp3")]))
    web.routes["/1.mp3"] = say(SOUND)
    supply = feeds(tmp_path, FeedRequest(web.url("/old"), follow=True))
    assert drain(supply, 1) == ["Talk: Episode 1"]
    time.sleep(0.4)
    assert supply.news() == [f"feed {web.url('/old')}: has moved for good to {web.url('/feed')}?…"]
    assert len(web.asked("/old")) > 1
    supply.close()
    web.routes["/old"] = redirect("/feed")
    supply = feeds(tmp_path, FeedRequest(web.url("/old")))
    until_over(supply)
    assert supply.news() == []
    supply.close()


def test_an_episode_is_called_by_its_title_and_unlike_the_other_inputs(
    web: Site, tmp_path: Path
) -> None:
    web.routes["/feed"] = say(rss([item(1, "/1.mp3"), item(2, "/2.mp3", title="Episode 1")]))
    web.routes["/1.mp3"] = web.routes["/2.mp3"] = say(SOUND)
    folders = Folders(tmp_path / "records", tmp_path / "cache")
    request = FeedRequest(web.url("/feed"), newest=2)
    taken = parsed(rss([item(1, "/1.mp3")]))[0].stream
    supply = Feeds([request], InputConfig(""), folders, FeedConfig(), QUICK, [taken])
    supply.start()
    found: list[tuple[str, InputConfig]] = []
    deadline = time.monotonic() + 10
    while len(found) < 2 and time.monotonic() < deadline:
        found += supply.take()
        time.sleep(0.02)
    assert [config.subject for _, config in found] == ["Episode 1"] * 2
    assert len({taken, *(name for name, _ in found)}) == 3
    with pytest.raises(SourceError, match=r"^Episode 1: cannot be decoded") as caught:
        open_source(found[0][1])
    assert ".audio" not in str(caught.value)
    supply.close()


def test_no_more_is_fetched_than_is_heard_soon(web: Site, tmp_path: Path) -> None:
    web.routes["/feed"] = say(rss([item(n, f"/{n}.mp3") for n in range(1, 9)]))
    for n in range(1, 9):
        web.routes[f"/{n}.mp3"] = say(SOUND)
    supply = feeds(tmp_path, FeedRequest(web.url("/feed"), 8), parallel=2)
    taken = supply.take()
    limit = time.monotonic() + 20.0
    while sum(path.endswith(".mp3") for path, _ in web.requests) < 3 and time.monotonic() < limit:
        time.sleep(0.05)
        taken += supply.take()
    time.sleep(0.5)
    assert len([*taken, *supply.take()]) == 2
    assert sum(path.endswith(".mp3") for path, _ in web.requests) == 3
    supply.close()
