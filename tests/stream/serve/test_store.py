"""The history: what was kept is there again, whatever happened to the process or to the disk."""

from __future__ import annotations

import json

import pytest
from fakes import RUN, info
from output_fakes import AGENT, CALL, CUSTOMER, NOW, gap, verdict

from abhinaya.stream.errors import StoreError
from abhinaya.stream.serve.store.store import Store, encoded
from abhinaya.stream.sinks.events import to_dict
from abhinaya.stream.wire.messages import Status, StreamEnded, StreamStarted


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "history.sqlite", clock=lambda: NOW)
    yield opened
    opened.close()


def add(store, *events):
    return [store.append(to_dict(event, NOW)) for event in events]


def test_events_get_numbers_without_a_hole_and_are_read_again(store):
    assert add(store, *CALL) == list(range(1, len(CALL) + 1))
    kept = store.events(0, None, 1000)
    assert [number for number, _, _ in kept] == list(range(1, len(CALL) + 1))
    for event, (number, stream, body) in zip(CALL, kept, strict=True):
        assert body == encoded(number, stream, to_dict(event, NOW))
        assert json.loads(body) == to_dict(event, NOW) | {"number": number, "stream_id": stream}
    agent = store.stream_id(RUN, AGENT)
    assert store.events(3, agent, 1)
    assert store.events(3, agent, 2) == [row for row in kept if row[1] == agent and row[0] > 3][:2]
    assert store.last() == len(CALL)


def test_a_status_a_provisional_verdict_and_a_known_start_get_no_number(store):
    begun = StreamStarted(info=info(AGENT))
    ended = StreamEnded(stream=AGENT, sequence=1, position=0)
    partial = verdict(1, 2.0, 3.0, part=1)
    status = Status(hub="1", waiting=0, open_segments=0, nodes=(), fronts=(), refused={}, doubles=0)
    one = verdict(0, 0.5, 2.0)
    got = add(store, begun, one, begun, partial, status, ended, ended, begun)
    assert got == [1, 2, 0, 0, 0, 3, 0, 4]


def test_the_same_name_in_another_run_is_another_stream(store):
    for run in ("a", "b"):
        add(store, StreamStarted(info=info(AGENT, run=run)))
    a, b = store.stream_id("a", AGENT), store.stream_id("b", AGENT)
    assert a != b
    add(store, verdict(0, 0.5, 2.0))
    store.append(to_dict(verdict(0, 0.5, 2.0), NOW) | {"run": "a"})
    assert [stream for _, stream, _ in store.events(2, None, 9)] == [b, a]


def test_a_store_opened_again_knows_its_streams_and_ends_those_broken_off(tmp_path):
    path = tmp_path / "history.sqlite"
    store = Store(path)
    add(store, StreamStarted(info=info(AGENT)), StreamStarted(info=info(CUSTOMER)))
    add(store, verdict(0, 0.5, 2.0), gap(1, 2.0, 3.5))
    add(store, StreamEnded(stream=CUSTOMER, sequence=0, position=0))
    ids = [store.stream_id(RUN, name) for name in (AGENT, CUSTOMER)]
    with pytest.raises(StoreError, match="another gateway writes to it"):
        Store(path)
    store.close()
    again = Store(path)
    assert [again.stream_id(RUN, name) for name in (AGENT, CUSTOMER)] == ids
    ((number, stream, body),) = again.events(5, None, 9)
    ended = json.loads(body)
    assert (number, stream, ended["type"]) == (6, ids[0], "stream_ended")
    assert (ended["segments"], ended["duration_s"]) == (2, 3.5)
    assert ended["reason"] == "the gateway stopped before this stream ended"
    assert again.stream_id(RUN, "new") not in ids
    again.close()
