"""Questions to the history, what people add to it, and what leaves it."""

from __future__ import annotations

import csv
import json
import random
from datetime import datetime

import history_made as made
import pytest

from abhinaya.models.labels import LABELS
from abhinaya.stream.serve.store import detail, export, keeping, queries
from abhinaya.stream.serve.store.packed import pack
from abhinaya.stream.serve.store.queries import Filter
from abhinaya.stream.serve.store.store import Store
from abhinaya.stream.sinks.events import wall_time
from abhinaya.stream.sinks.export.formats import FORMATS
from abhinaya.train.data.manifest import read_manifest

DAY = 86_400.0
RANDOM = random.Random(7)


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock(made.BEGAN)


@pytest.fixture
def store(tmp_path, clock):
    opened = Store(tmp_path / "history.sqlite", clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def events(store, clock):
    """Four streams of 0.1 h, in the store."""
    kept = []
    for now, body in made.events(4, 0.1):
        clock.now = now
        number = store.append(body)
        kept.append(body | {"number": number, "stream_id": store.stream_id("made", body["stream"])})
    store.keep()
    return kept


def verdicts(events, **wanted):
    found = [e for e in events if e["type"] == "verdict"]
    return [e for e in found if all(e[name] == value for name, value in wanted.items())]


def keys(rows):
    return [(row["stream_id"], row["segment"]) for row in rows]


def all_pages(file, wanted, limit):
    rows, before = [], ""
    while before is not None:
        page = queries.segments(file, wanted, limit, before)
        assert len(page["segments"]) <= limit
        rows, before = rows + page["segments"], page["next"]
    return rows


@pytest.mark.parametrize(
    ("wanted", "is_meant"),
    [
        (Filter(), lambda e: True),
        (Filter(label="angry"), lambda e: e["label"] == "angry"),
        (Filter(party="agent"), lambda e: e["stream"].endswith("/agent")),
        (Filter(call="call-1"), lambda e: e["stream"].startswith("call-1/")),
        (Filter(words="REFUND"), lambda e: "refund" in e["transcript"]["text"].split()),
        (Filter(words="inv"), lambda e: "invoice" in e["transcript"]["text"]),
        (Filter(words='"my car" '), lambda e: "my car" in e["transcript"]["text"]),
        (
            Filter(words="the", label="happy", party="customer"),
            lambda e: (
                "customer" in e["stream"]
                and e["label"] == "happy"
                and any(word.startswith("the") for word in e["transcript"]["text"].split())
            ),
        ),
        (
            Filter(since=made.BEGAN + 60, until=made.BEGAN + 120),
            lambda e: 60 <= e["start_s"] < 120,
        ),
        (Filter(words='" OR ('), lambda e: False),
        (Filter(words="text:the*"), lambda e: False),
    ],
)
def test_a_search_finds_what_is_meant_in_pages_of_any_size(store, events, wanted, is_meant):
    meant = {(e["stream_id"], e["segment"]) for e in verdicts(events) if is_meant(e)}
    for limit in (7, 1000):
        found = all_pages(store.file, wanted, limit)
        assert len(found) == len(meant)
        assert set(keys(found)) == meant
        times = [row["wall_time"] for row in found]
        assert times == sorted(times, reverse=True)


def test_a_revision_replaces_the_label_the_words_and_the_totals(store, events):
    first = verdicts(events)[0]
    label = next(name for name in LABELS if name != first["label"])
    words = {"text": "quite other xylophones", "translation": ""}
    number = store.append(first | {"label": label, "revision": 1, "transcript": words})
    store.append(first)  # an old one again
    store.keep()
    ((row),) = queries.segments(store.file, Filter(words="xylophones"), 9)["segments"]
    assert (row["label"], row["revision"], row["number"]) == (label, 1, number)
    old = first["transcript"]["text"]
    found = queries.segments(store.file, Filter(words=f'"{old}" '), 99)["segments"]
    assert (first["stream_id"], 0) not in keys(found)
    shown = detail.segments(store.file, first["stream_id"], 1)["segments"][0]
    assert [one["label"] for one in shown["revisions"]] == [first["label"]]
    assert detail.stream(store.file, first["stream_id"])["revised"] == 1
    totals = queries.streams(store.file, Filter(stream=first["stream_id"]), 1)["streams"][0]
    meant: dict[str, float] = {}
    for e in verdicts(events, stream_id=first["stream_id"]):
        name = label if e["segment"] == 0 else e["label"]
        meant[name] = meant.get(name, 0.0) + e["end_s"] - e["start_s"]
    assert totals["labels"] == {n: pytest.approx(s, abs=0.01) for n, s in meant.items()}


def test_a_stream_in_full(store, events):
    stream = verdicts(events)[0]["stream_id"]
    own = verdicts(events, stream_id=stream)
    found = detail.stream(store.file, stream)
    assert found["segments"] == len(own)
    assert found["alerts"] == len(
        [e for e in events if e["type"] == "alert" and e["stream_id"] == stream]
    )
    speech_s = sum(e["end_s"] - e["start_s"] for e in own)
    assert found["speech_s"] == pytest.approx(speech_s, abs=0.01)
    assert sum(share["seconds"] for share in found["shares"].values()) == pytest.approx(speech_s)
    agent, customer = found["talk"]["parties"]
    assert (agent["stream"], customer["stream"]) == ("call-0/agent", "call-0/customer")
    assert agent["talk_s"] == pytest.approx(speech_s)
    assert agent["share"] + customer["share"] == pytest.approx(1.0, abs=0.001)
    assert found["latest"]["latency_ms"]["total"]["p50"] == pytest.approx(750, abs=60)
    first = detail.segments(store.file, stream, 10)
    rest = detail.segments(store.file, stream, 1000, first["next"])
    assert rest["next"] is None
    shown = [
        {name: one[name] for name in one if name not in ("revisions", "corrections")}
        for one in first["segments"] + rest["segments"]
    ]
    assert shown == own
    with pytest.raises(KeyError):
        detail.stream(store.file, 99)


def test_this_week_against_last(store, clock):
    monday = datetime(2026, 11, 23).toordinal()
    begins = datetime.fromordinal(monday).timestamp()
    meant = {"current": 0.0, "previous": 0.0}
    for i in range(40):
        clock.now = begins + DAY * (0.5 * i - 10) + 3600
        body = made.verdict(RANDOM, "call/agent" if i % 3 else "call/customer", i)
        store.append(body | {"wall_time": wall_time(clock.now)})
        week = {-1: "previous", 0: "current"}.get(int((clock.now - begins) // (7 * DAY)))
        if week:
            meant[week] += body["end_s"] - body["start_s"]
    store.keep()
    found = queries.weeks(store.file, monday)
    for name, seconds in meant.items():
        week = found[name]
        assert seconds > 0
        assert week["speech_s"] == pytest.approx(seconds, abs=0.01)
        for parts in (week["parties"], week["days"]):
            assert sum(p["speech_s"] for p in parts.values()) == pytest.approx(seconds, abs=0.02)
        assert len(week["days"]) == 7
    assert found["current"]["from"] == "2026-11-23"
    assert found["previous"]["to"] == "2026-11-22"


def test_an_alert_is_acknowledged_once_and_everybody_learns_it(store, clock):
    number = store.append(made.alert(RANDOM, "call/agent", 3))
    (shown,) = queries.alerts(store.file, Filter(), 9, unseen=True)["alerts"]
    assert (shown["number"], shown["rule"], shown["by"]) == (number, "angry customer", "")
    said = store.acknowledge(number, "ann")
    assert store.acknowledge(number, "bob") == 0
    assert queries.alerts(store.file, Filter(), 9, unseen=True)["alerts"] == []
    (shown,) = queries.alerts(store.file, Filter(party="agent"), 9)["alerts"]
    assert (shown["by"], shown["at"]) == ("ann", wall_time(clock.now))
    event = json.loads(store.events(said - 1, None, 1)[0][2])
    assert (event["type"], event["alert"], event["by"]) == ("alert_acknowledged", number, "ann")
    with pytest.raises(KeyError):
        store.acknowledge(said, "ann")


def test_corrections_are_kept_and_become_a_training_manifest(store, events, tmp_path):
    first, second = verdicts(events)[:2]
    stream, segment = first["stream_id"], first["segment"]
    number = store.correct(stream, segment, "sad", "ann", "sobs", others=False)
    event = json.loads(store.events(number - 1, None, 1)[0][2])
    assert (event["type"], event["label"], event["judged"]) == ("correction", "sad", first["label"])
    with pytest.raises(PermissionError):
        store.correct(stream, segment, "fear", "bob", others=False)
    store.correct(stream, segment, "fear", "bob", others=True)
    store.correct(stream, segment, "fear", "ann", others=True)
    store.correct(second["stream_id"], second["segment"], "happy", "bob", others=False)
    found = queries.segments(store.file, Filter(corrected=True), 9)["segments"]
    assert {(row["label"], row["corrected"]) for row in found} == {
        (first["label"], "fear"), (second["label"], "happy"),
    }  # fmt: skip
    history = detail.segments(store.file, stream, 1)["segments"][0]["corrections"]
    assert [(c["by"], c["label"]) for c in history] == [
        ("ann", "sad"),
        ("bob", "fear"),
        ("ann", "fear"),
    ]
    with pytest.raises(KeyError):
        store.correct(stream, 9999, "sad", "ann", others=True)
    target = tmp_path / "corrections.jsonl"
    target.write_bytes(b"".join(export.manifest(store.file)))
    one, two = sorted(read_manifest(target).clips, key=lambda clip: clip.speaker)
    assert (one.label, dict(one.votes), two.label) == ("fear", {"fear": 2.0}, "happy")
    assert one.transcript == first["transcript"]["text"]
    assert (one.start_s, one.end_s) == (first["start_s"], first["end_s"])
    assert one.origin["by"] == "ann, bob"
    assert one.origin["judged"] == first["label"]


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_a_search_and_a_stream_are_exported_in_every_format(store, events, suffix):
    stream = verdicts(events)[0]["stream_id"]
    for wanted in (Filter(stream=stream), Filter(label="happy")):
        folder, path = export.exported(store.file, wanted, suffix)
        assert path.stat().st_size > 100
        if suffix == ".csv":
            of = {e["stream"]: e["stream_id"] for e in events}
            table = csv.DictReader(path.open(encoding="utf-8", newline=""))
            rows = [(of[row["stream"]], int(row["segment"])) for row in table]
            assert sorted(rows) == sorted(keys(all_pages(store.file, wanted, 500)))
        folder.cleanup()
        assert not path.exists()


def test_retention_removes_whole_days_and_nothing_else(store, clock):
    today = datetime.fromtimestamp(clock.now).replace(hour=12).timestamp()
    for days in range(6, -1, -1):
        clock.now = today - DAY * days
        name = f"call-{days}/agent"
        store.append(made.verdict(RANDOM, name, 0) | {"wall_time": wall_time(clock.now)})
        store.append(made.alert(RANDOM, name, 0) | {"wall_time": wall_time(clock.now)})
        ended = {"type": "stream_ended", "segments": 1, "duration_s": 5.0}
        store.append(made.alert(RANDOM, name, 0) | ended)
    store.keep()
    last = store.last()
    assert store.expire(3, clock.now) == 12
    assert [row["call"] for row in queries.segments(store.file, Filter(), 9)["segments"]] == [
        "call-0", "call-1", "call-2",
    ]  # fmt: skip
    assert [number for number, _, _ in store.events(0, None, 99)] == list(range(13, last + 1))
    with store.file.reading() as db:
        for table in ("segments", "alerts", "streams", "totals", "words_docsize"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (3,), table
    assert store.expire(3, clock.now) == 0
    clock.now += 9 * DAY
    store.expire(1, clock.now)
    assert store.append(made.verdict(RANDOM, "new/agent", 0)) == last + 1, "numbers go on"


def test_what_is_deleted_by_name_is_nowhere_in_the_files(store, events, clock, tmp_path):
    secret = made.verdict(RANDOM, "call-9/Mallory", 0, "my xylophone is purple")
    number = store.append(secret)
    store.append({"schema": secret["schema"], "type": "remark", "stream": None, "source": "call-9",
                  "text": "the sound of call-9/Mallory clips"})  # fmt: skip
    store.append(made.verdict(RANDOM, "call-8/Mallory Jones", 0, "keep me zither"))
    store.keep()
    packed = pack(json.dumps(secret, separators=(",", ":")).encode())

    def holds(*needles):
        data = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        return [needle for needle in needles if needle in data]

    needles = (b"xylophone", b"call-9", packed)
    assert holds(*needles) == list(needles)
    before = len(store.events(0, None, 9999))
    found = store.delete_party("Mallory", "ann")
    assert (found.streams, found.running, found.events) == (
        ("call-9/Mallory",),
        ("call-9/Mallory",),
        2,
    )
    assert found.erased
    assert not holds(*needles)
    assert holds(b"zither")
    assert len(store.events(0, None, 9999)) == before - 2
    assert number not in [n for n, _, _ in store.events(0, None, 9999)]
    again = store.delete_party("Mallory", "ann")
    assert (again.streams, again.events) == ((), 0)
    store.append(made.verdict(RANDOM, "call-9/Mallory", 1))
    assert store.delete_party("Mallory", "ann").events == 1


def test_a_deletion_does_not_wait_for_ever_for_a_reader(store, events, monkeypatch):
    monkeypatch.setattr(keeping, "ERASE_S", 0.2)
    with store.file.reading() as db:
        rows = db.execute("SELECT * FROM segments")
        rows.fetchone()
        assert not store.delete_party("call-0", "ann").erased
        rows.close()
    assert store.delete_party("call-1", "ann").erased
