"""Endpoints, keys and limits, on real sockets."""

from __future__ import annotations

import contextlib
import shutil
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import zmq

from abhinaya.stream.errors import NetworkError
from abhinaya.stream.wire.guard import REFUSED_HANDSHAKE, REFUSED_KEY
from abhinaya.stream.wire.keys import LOCAL, Keys, make_keys
from abhinaya.stream.wire.sockets import (
    HARD_LIMIT_BYTES,
    MAX_PATH,
    MAX_RECEIVED,
    Hub,
    check_endpoint,
    connect,
    receive,
    send,
    workers_endpoint,
)

Socket = zmq.Socket[bytes]
PATIENCE_S = 10.0
NOTHING_S = 0.4
"""Long enough for a message between two sockets that may talk to each other."""


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    made: zmq.Context[Any] = zmq.Context()
    yield made
    made.destroy(linger=0)


def free_port() -> int:
    """A port that is free, as is the next; below those that the system gives to connections."""
    with zmq.Context() as probe, probe.socket(zmq.ROUTER) as one, probe.socket(zmq.ROUTER) as two:
        while True:
            port = one.bind_to_random_port("tcp://127.0.0.1", 20_000, 29_998)
            with contextlib.suppress(zmq.ZMQError):
                two.bind(f"tcp://127.0.0.1:{port + 1}")
                return port


def until(condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.01)
    return None


def arrives(hub: Hub, socket: Socket, patience_s: float = PATIENCE_S) -> bool:
    """Whether what the socket says reaches the hub's workers."""

    def try_once() -> bool:
        serve(hub)
        send(socket, [b"hello"])
        return receive(hub.workers) is not None

    return bool(until(try_once, patience_s))


def senders(hub: Hub, *sockets: Socket) -> set[bytes]:
    """Who gets through to the hub's workers if all of them try for a while."""
    heard: set[bytes] = set()
    deadline = time.monotonic() + NOTHING_S
    while time.monotonic() < deadline:
        serve(hub)
        for socket in sockets:
            send(socket, [b"hello"])
        time.sleep(0.02)
        while (frames := receive(hub.workers)) is not None:
            heard.add(name_of(frames))
    return heard


def serve(hub: Hub) -> Counter[str]:
    """Answer the questions about keys, as the hub's loop does; return the refusals."""
    if hub.guard is None:
        return Counter()
    hub.guard.admissions.look(time.monotonic())
    return Counter(hub.guard.serve(time.monotonic()))


def name_of(frames: Sequence[zmq.Frame]) -> bytes:
    """The name in the identity of the sender, which a random part makes unique."""
    return frames[0].bytes.rpartition(b"-")[0]


# --- endpoints ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "endpoint", ["tcp://127.0.0.1:5555", "tcp://localhost:5555", "tcp://[::1]:5555", "ipc:///tmp/x"]
)
def test_this_machine_needs_no_keys(endpoint: str) -> None:
    check_endpoint(endpoint, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "*", "192.168.1.7", "example.org", "[::]", "eth0"])
def test_the_network_needs_keys(host: str, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="has no keys") as error:
        check_endpoint(f"tcp://{host}:5555", None)
    assert "--keys" in error.value.remedy
    check_endpoint(f"tcp://{host}:5555", Keys(tmp_path, "hub"))


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "127.0.0.1:5555",
        "tcp://127.0.0.1",
        "tcp://:5555",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:65535",  # the sinks need the next port
        "tcp://127.0.0.1:99999",
        "tcp://127.0.0.1:http",
        "tcp://127.0.0.1:5555/x",
        "tcp://me@127.0.0.1:5555",
        "tcp://127.0.0.1:5555?x=1",
        "tcp://127.0.0.1:5555#x",
        "udp://127.0.0.1:5555",
        "inproc://hub",
        "pgm://127.0.0.1:5555",
        "ipc://",
        "ipc://@abstract",  # open to every user of the machine: no file, no mode
    ],
)
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(NetworkError, match="is not an endpoint"):
        check_endpoint(endpoint, None)


def test_a_directory_whose_sockets_could_not_be_named_is_refused() -> None:
    most = MAX_PATH - len("//sinks")
    check_endpoint("ipc:///" + "d" * most, None)
    with pytest.raises(NetworkError, match="longer than a socket's path may be"):
        check_endpoint("ipc:///" + "d" * (most + 1), None)


# --- one hub an endpoint --------------------------------------------------------------------------


def test_the_directory_of_the_sockets_is_private(context: zmq.Context[Any], tmp_path: Path) -> None:
    hub = Hub(context, f"ipc://{tmp_path / 'run'}")
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
    hub.close()


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_directory_that_others_may_enter_is_refused(
    context: zmq.Context[Any], tmp_path: Path, mode: int
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(mode)
    with pytest.raises(NetworkError, match="is open to others") as error:
        Hub(context, f"ipc://{tmp_path / 'run'}")
    assert "chmod 700" in error.value.remedy


def test_a_second_hub_in_the_same_directory_is_refused_and_the_first_goes_on(
    context: zmq.Context[Any], tmp_path: Path
) -> None:
    base = f"ipc://{tmp_path}"
    first = Hub(context, base)
    with pytest.raises(NetworkError, match="has a hub already"):
        Hub(context, base)
    with connect(context, workers_endpoint(base), "S1-0") as socket:
        assert arrives(first, socket)
    first.close()
    Hub(context, base).close()


def test_where_only_the_second_door_is_taken_the_first_is_given_back(
    context: zmq.Context[Any],
) -> None:
    port = free_port()
    taken = context.socket(zmq.ROUTER)
    taken.bind(f"tcp://127.0.0.1:{port + 1}")
    with pytest.raises(NetworkError, match="cannot be bound") as error:
        Hub(context, f"tcp://127.0.0.1:{port}")
    assert error.value.subject == f"tcp://127.0.0.1:{port + 1}"
    taken.close()
    del error
    assert until(lambda: _binds(context, port)), "the first door is still held"


def _binds(context: zmq.Context[Any], port: int) -> bool:
    try:
        Hub(context, f"tcp://127.0.0.1:{port}").close()
    except NetworkError:
        return False
    return True


def test_a_place_where_no_directory_can_be_is_refused(
    context: zmq.Context[Any], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NetworkError, match="cannot be used"):
        Hub(context, f"ipc://{tmp_path / 'file' / 'run'}")


# --- sending and receiving ------------------------------------------------------------------------


def test_frames_arrive_as_they_were_sent_and_go_back(
    context: zmq.Context[Any], tmp_path: Path
) -> None:
    hub = Hub(context, f"ipc://{tmp_path}")
    with connect(context, workers_endpoint(f"ipc://{tmp_path}"), "S1-0") as socket:
        large = bytes(range(256)) * 2500
        assert until(lambda: send(socket, [b"header", large, memoryview(b"third")]))
        frames = until(lambda: receive(hub.workers))
        assert name_of(frames) == b"S1-0"
        assert [f.bytes for f in frames[1:]] == [b"header", large, b"third"]
        assert hub.key_of(frames[-1]) == LOCAL
        assert send(hub.workers, [b"answer"], frames[0].bytes)
        assert [f.bytes for f in until(lambda: receive(socket))] == [b"answer"]
    hub.close()


def test_a_context_that_closes_everything_can_close_clients(tmp_path: Path) -> None:
    context: zmq.Context[Any] = zmq.Context()
    for number in range(9):  # in any order: their monitors are sockets too
        connect(context, workers_endpoint(f"ipc://{tmp_path}"), f"S1-{number}")
    context.destroy(linger=0)


def test_without_a_hub_nothing_is_queued(context: zmq.Context[Any], tmp_path: Path) -> None:
    with connect(context, workers_endpoint(f"ipc://{tmp_path}"), "S1-0") as socket:
        assert not send(socket, [b"lost"])


def test_a_peer_that_is_not_there_is_not_sent_to(context: zmq.Context[Any], tmp_path: Path) -> None:
    hub = Hub(context, f"ipc://{tmp_path}")
    assert not send(hub.workers, [b"hello"], b"nobody")
    hub.close()


def test_a_peer_that_comes_back_under_its_identity_takes_over(
    context: zmq.Context[Any], tmp_path: Path
) -> None:
    hub = Hub(context, f"ipc://{tmp_path}")
    endpoint = workers_endpoint(f"ipc://{tmp_path}")
    # frozen, it would not connect again and take its name back
    old: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    new: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    for socket in (old, new):
        socket.identity, socket.linger, socket.reconnect_ivl = b"S1-0-7f", 0, -1
    old.connect(endpoint)
    assert arrives(hub, old)
    new.connect(endpoint)

    def is_heard() -> bool:
        send(new, [b"it is me"])
        return [bytes(f) for f in receive(hub.workers) or ()] == [b"S1-0-7f", b"it is me"]

    assert until(is_heard)  # and not what the old one had said last
    assert send(hub.workers, [b"for the new one"], b"S1-0-7f")
    assert until(lambda: receive(new))
    for socket in (old, new):
        socket.close()
    hub.close()


def test_two_processes_of_one_name_do_not_share_an_identity(
    context: zmq.Context[Any], tmp_path: Path
) -> None:
    hub = Hub(context, f"ipc://{tmp_path}")
    endpoint = workers_endpoint(f"ipc://{tmp_path}")
    long = "n" * 300
    with connect(context, endpoint, long) as first, connect(context, endpoint, long) as second:
        for socket in (first, second):
            assert until(lambda socket=socket: send(socket, [b"hello"]))
        peers = [until(lambda: receive(hub.workers))[0].bytes for _ in range(2)]
        assert len(set(peers)) == 2
        for peer in peers:
            assert send(hub.workers, [peer], peer)
        assert {until(lambda s=s: receive(s))[0].bytes for s in (first, second)} == set(peers)
    hub.close()


def test_who_sends_more_than_the_limit_is_cut_off_and_the_others_are_not(
    context: zmq.Context[Any], tmp_path: Path
) -> None:
    hub = Hub(context, f"ipc://{tmp_path}")
    endpoint = workers_endpoint(f"ipc://{tmp_path}")
    with connect(context, endpoint, "flood") as flood, connect(context, endpoint, "S1-0") as good:
        assert arrives(hub, good)
        assert until(lambda: send(flood, [bytes(HARD_LIMIT_BYTES + 1)]))
        assert arrives(hub, good)
        assert senders(hub, good) == {b"S1-0"}
        assert arrives(hub, good)
    hub.close()


# --- keys -----------------------------------------------------------------------------------------


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Path]:
    """The hub's directory, which admits `alice`, and directories of clients as they should be."""
    hub = tmp_path / "hub-machine"
    make_keys(hub, "hub")
    for client in ("alice", "mallory"):
        make_keys(tmp_path / client, client, "node")
        shutil.copy(hub / "hub.key", tmp_path / client)
    shutil.copy(tmp_path / "alice" / "alice.key", hub)
    return {name: tmp_path / name for name in ("alice", "mallory")} | {"hub": hub}


def test_nobody_else_gets_anything_through_and_each_side_knows_why(
    context: zmq.Context[Any],
    keys: dict[str, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    base = f"tcp://127.0.0.1:{free_port()}"
    hub = Hub(context, base, Keys(keys["hub"], "hub"))
    misled = tmp_path / "misled"  # alice's own keys, but another hub's
    shutil.copytree(keys["alice"], misled)
    make_keys(tmp_path / "other", "hub")
    shutil.copy(tmp_path / "other" / "hub.key", misled)
    others = {
        "only one of the two sides uses keys": connect(context, base, "without"),
        "does not admit this key": connect(
            context, base, "foreign", Keys(keys["mallory"], "mallory")
        ),
        "hub.key is probably not its key": connect(context, base, "wrong", Keys(misled, "alice")),
        "does not answer": connect(context, f"tcp://127.0.0.1:{free_port()}", "nobody"),
    }
    refused: Counter[str] = Counter()
    with connect(context, base, "alice", Keys(keys["alice"], "alice")) as right:
        assert arrives(hub, right)
        begun = time.monotonic()
        while refused[REFUSED_KEY] < 2 and time.monotonic() < begun + PATIENCE_S:
            refused += serve(hub)
            for socket in others.values():
                assert not socket.is_new()
                send(socket, [b"hello"])
            time.sleep(0.01)
        assert senders(hub, right, *others.values()) == {b"alice"}
    for reason, socket in others.items():
        assert reason in str(socket.error())
        assert socket.error().remedy
        assert not socket.made
    assert refused[REFUSED_KEY] >= 2  # it dials again
    assert set(refused) == {REFUSED_KEY, *REFUSED_HANDSHAKE.values()}
    assert caplog.text.count("from 127.0.0.1: no file in") == 1, "each address once a minute"
    for socket in others.values():
        socket.close()
    hub.close()


def test_a_key_is_admitted_and_revoked_while_the_hub_runs(
    context: zmq.Context[Any], keys: dict[str, Path]
) -> None:
    base = f"tcp://127.0.0.1:{free_port()}"
    hub = Hub(context, base, Keys(keys["hub"], "hub"))
    with connect(context, base, "late", Keys(keys["mallory"], "mallory")) as late:

        def is_refused() -> bool:
            serve(hub)
            late.is_new()
            return bool(late.cause)

        assert until(is_refused)
        shutil.copy(keys["mallory"] / "mallory.key", keys["hub"])

        def message() -> list[zmq.Frame] | None:
            serve(hub)
            late.is_new()
            send(late, [b"hello"])
            return receive(hub.workers)

        frames = until(message)
        assert frames, "not admitted without a restart"
        key = hub.key_of(frames[-1])
        assert key is not None
        assert (key.name, key.role) == ("mallory", "node")
        (keys["hub"] / "mallory.key").unlink()
        assert until(lambda: hub.key_of((message() or frames)[-1]) is None, 5.0)
    hub.close()


def test_a_hub_without_its_pair_says_what_to_do(context: zmq.Context[Any], tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"hub\.key_secret.*abhinaya keys"):
        Hub(context, f"tcp://127.0.0.1:{free_port()}", Keys(tmp_path, "hub"))


@pytest.mark.parametrize("damage", ['curve\n    public-key = "short"\n', "", "\x00\x01"])
def test_a_damaged_key_on_the_allow_list_is_named_at_the_start(
    context: zmq.Context[Any], keys: dict[str, Path], damage: str
) -> None:
    (keys["hub"] / "bob.key").write_text(damage, "utf-8")
    with pytest.raises(NetworkError, match=r"bob\.key.*is not a public key") as error:
        Hub(context, "tcp://127.0.0.1:5999", Keys(keys["hub"], "hub"))
    assert "remove it" in error.value.remedy


def test_what_a_peer_sends_too_fast_waits_at_the_peer(
    context: zmq.Context[Any], tmp_path: Path
) -> None:
    tmp_path.chmod(0o700)
    base = f"ipc://{tmp_path}"
    hub = Hub(context, base)
    peer = context.socket(zmq.DEALER)
    peer.sndhwm, peer.linger = 1, 0
    peer.connect(workers_endpoint(base))
    sent = 0
    while sent < 3 * MAX_RECEIVED and peer.poll(1000, zmq.POLLOUT):
        peer.send(bytes(100_000))
        sent += 1
    assert MAX_RECEIVED / 2 < sent < 2 * MAX_RECEIVED
    hub.close()
