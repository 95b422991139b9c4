"""The history over HTTP: each page, who may do what, and what a wrong question gets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from gateways import Running, running
from websockets.sync.client import connect

from abhinaya.stream.settings.rules import Alert
from abhinaya.train.data.manifest import read_manifest

CALL = ("call-1/agent", "call-1/customer")


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two parties with 5 segments each; an alert."""
    with running(tmp_path_factory.mktemp("data")) as served:
        for name in CALL:
            served.begin(name)
            for n in range(5):
                served.say(name, n, ("neutral", "angry")[n % 2])
        alert = Alert("r", CALL[1], "angry", 3, 3, 0, 9, 1e9, 9, 1, 0.5, "where is it")
        served.gateway.board.alert(alert, 1e9)
        served.gateway.store.keep()
        yield served


def as_reader(web: Running, name: str) -> dict[str, str]:
    token = web.tokens.add(name, "reader", 1)
    web.tokens.reread()
    return {"Authorization": f"Bearer {token}"}


def test_search_goes_through_pages_and_the_stream_shows_all_of_them(web: Running) -> None:
    found, before = [], ""
    while before is not None:
        page = web.get(f"/v1/history?label=angry&limit=3&before={before}").json()
        found, before = found + page["segments"], page["next"]
    assert {(row["stream"], row["segment"]) for row in found} == {
        (s, n) for s in CALL for n in (1, 3)
    }
    one = found[0]["stream_id"]
    full = web.get(f"/v1/history/streams/{one}").json()
    assert (full["segments"], full["labels"]) == (5, {"neutral": 6.0, "angry": 4.0})
    assert [party["share"] for party in full["talk"]["parties"]] == [0.5, 0.5]
    part = web.get(f"/v1/history/streams/{one}/segments?limit=4").json()
    rest = web.get(f"/v1/history/streams/{one}/segments?after={part['next']}").json()
    assert [s["segment"] for s in part["segments"] + rest["segments"]] == list(range(5))
    assert rest["next"] is None
    streams = web.get("/v1/history/streams?call=call-1").json()["streams"]
    assert {stream["name"] for stream in streams} == set(CALL)
    parties = web.get("/v1/history/parties").json()["parties"]
    assert parties == [{"party": party, "streams": 1} for party in ("agent", "customer")]
    weeks = web.get("/v1/history/weeks?day=2001-09-09").json()
    assert weeks["current"]["speech_s"] + weeks["previous"]["speech_s"] == 20.0
    assert web.get("/v1/history/weeks").json()["current"]["speech_s"] == 0.0


def test_an_alert_is_acknowledged_and_every_reader_learns_it(web: Running) -> None:
    (alert,) = web.get("/v1/alerts?open=true").json()["alerts"]
    path = f"/v1/alerts/{alert['number']}/acknowledge"
    with connect(web.ws + "/v1/events", additional_headers=web.bearer) as ws:
        first = httpx2.post(web.url + path, headers=as_reader(web, "ann")).json()
        assert (first["by"], first["rule"], first["number"]) == ("ann", "r", alert["number"])
        event = json.loads(ws.recv(5))
        assert (event["type"], event["alert"]) == ("alert_acknowledged", alert["number"])
    assert web.post(path).json()["by"] == "ann"
    assert web.get("/v1/alerts?open=true").json() == {"alerts": [], "next": None}
    assert web.post("/v1/alerts/999/acknowledge").status_code == 404


def test_a_person_corrects_a_segment_and_only_an_administrator_overrules(
    web: Running, tmp_path: Path
) -> None:
    stream = web.get("/v1/history?call=call-1").json()["segments"][0]["stream_id"]
    url = f"{web.url}/v1/streams/{stream}/segments/2/correction"

    def correct(who: dict[str, str], label: str) -> httpx2.Response:
        return httpx2.post(url, headers=who, json={"label": label, "note": "I was there"})

    ann, bob = as_reader(web, "ann"), as_reader(web, "bob")
    with connect(web.ws + "/v1/events", additional_headers=web.bearer) as ws:
        assert correct(ann, "sad").json()["by"] == "ann"
        event = json.loads(ws.recv(5))
        assert (event["type"], event["segment"], event["label"]) == ("correction", 2, "sad")
    assert correct(bob, "fear").status_code == 409
    assert correct(ann, "happy").status_code == 200
    assert correct(web.bearer, "fear").status_code == 200
    assert correct(ann, "bored").status_code == 400
    (found,) = web.get("/v1/history?corrected=true").json()["segments"]
    assert (found["label"], found["corrected"]) == ("neutral", "fear")
    missing = url.replace("/2/", "/77/")
    assert httpx2.post(missing, headers=ann, json={"label": "sad"}).status_code == 404
    target = tmp_path / "corrections.jsonl"
    target.write_bytes(web.get("/v1/history/corrections").content)
    (clip,) = read_manifest(target).clips
    assert dict(clip.votes) == {"happy": 1.0, "fear": 1.0}
    assert clip.origin["by"] == "ann, owner"


def test_exports(web: Running) -> None:
    answer = web.get("/v1/history/export?format=csv&label=angry")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="history.csv"'
    assert len(list(csv.DictReader(io.StringIO(answer.text)))) == 4
    stream = web.get("/v1/history?call=call-1").json()["segments"][0]["stream_id"]
    answer = web.get(f"/v1/history/export?format=vtt&stream={stream}")
    assert answer.text.startswith("WEBVTT")
    assert answer.text.count("-->") == 5
    assert web.get(f"/v1/history/export?format=parquet&stream={stream}").content[:4] == b"PAR1"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/history?before=x", 400),
        ("/v1/history?before=1:2:3", 400),
        ("/v1/history?limit=0", 400),
        ("/v1/history?from=yesterday", 400),
        ("/v1/history?from=2026-11-30T00:00:00", 400),
        ("/v1/history?colour=red", 400),
        ("/v1/history?label=glad", 400),
        ("/v1/history?label=unknown", 200),
        ("/v1/history?words=%00%22%28*", 200),
        ("/v1/history?words=" + "a" * 201, 400),
        ("/v1/history?stream=9007199254740991", 200),
        ("/v1/history?to=0001-01-01T00:00:00Z", 200),
        ("/v1/history/weeks?day=0001-01-01", 400),
        ("/v1/history/weeks?day=2026-02-30", 400),
        ("/v1/history/streams/99", 404),
        ("/v1/history/streams/99/segments", 200),
        ("/v1/history/export?format=docx", 400),
        ("/v1/history/export", 400),
        ("/v1/alerts?before=-1", 400),
    ],
)
def test_wrong_questions_get_a_clear_answer(web: Running, path: str, status: int) -> None:
    answer = web.get(path)
    assert answer.status_code == status
    if status != 200:
        assert answer.json()["error"]["message"]


def test_without_a_token_nothing_is_shown(web: Running) -> None:
    for path in ("", "/streams", "/weeks", "/export?format=csv", "/corrections", "/parties"):
        assert httpx2.get(f"{web.url}/v1/history{path}").status_code == 401
    assert httpx2.get(f"{web.url}/v1/alerts").status_code == 401


def test_only_an_administrator_deletes_what_is_kept_of_a_name(tmp_path: Path) -> None:
    with running(tmp_path) as served:
        for name in ("call-2/asha", "call-2/bo"):
            served.begin(name)
            served.say(name, 0, "sad")
        served.gateway.store.keep()
        path, body = served.url + "/v1/history/deletions", {"name": "asha"}
        refused = httpx2.post(path, json=body, headers=as_reader(served, "eve"))
        assert refused.status_code == 403
        done = httpx2.post(path, json=body, headers=served.bearer).json()
        assert (done["streams"], done["running"], done["erased"]) == (
            ["call-2/asha"], ["call-2/asha"], True,
        )  # fmt: skip
        for kept in ("/v1/streams", "/v1/history/streams"):
            assert [s["name"] for s in served.get(kept).json()["streams"]] == ["call-2/bo"]
        assert httpx2.post(path, json={"name": ""}, headers=served.bearer).status_code == 400
