"""Endpoints, keys and limits, on real sockets."""

from __future__ import annotations

import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from abhinaya.stream.errors import NetworkError
from abhinaya.stream.wire.sockets import (
    HARD_LIMIT_BYTES,
    Hub,
    Keys,
    check_endpoint,
    connect,
    make_keys,
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
    """A port that is free, as is the next."""
    with zmq.Context() as probe, probe.socket(zmq.ROUTER) as socket:
        return socket.bind_to_random_port("tcp://127.0.0.1", 20_000, 40_000)


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
        send(socket, [b"hello"])
        return receive(hub.workers) is not None

    return bool(until(try_once, patience_s))


def senders(hub: Hub, *sockets: Socket) -> set[bytes]:
    """Who gets through to the hub's workers if all of them try for a while."""
    heard: set[bytes] = set()
    deadline = time.monotonic() + NOTHING_S
    while time.monotonic() < deadline:
        for socket in sockets:
            send(socket, [b"hello"])
        time.sleep(0.02)
        while (frames := receive(hub.workers)) is not None:
            heard.add(frames[0].bytes)
    return heard


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
    check_endpoint("ipc:///" + "d" * 90, None)
    with pytest.raises(NetworkError, match="longer than a socket's path may be"):
        check_endpoint("ipc:///" + "d" * 100, None)


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
        assert [f.bytes for f in frames] == [b"S1-0", b"header", large, b"third"]
        assert send(hub.workers, [b"answer"], b"S1-0")
        assert [f.bytes for f in until(lambda: receive(socket))] == [b"answer"]
    hub.close()


def test_without_a_hub_nothing_is_queued(context: zmq.Context[Any], tmp_path: Path) -> None:
    with connect(context, workers_endpoint(f"ipc://{tmp_path}"), "S1-0") as socket:
        assert not send(socket, [b"lost"])


def test_a_peer_that_is_not_there_is_not_sent_to(context: zmq.Context[Any], tmp_path: Path) -> None:
    hub = Hub(context, f"ipc://{tmp_path}")
    assert not send(hub.workers, [b"hello"], b"nobody")
    hub.close()


def test_a_peer_that_comes_back_under_its_name_takes_over(
    context: zmq.Context[Any], tmp_path: Path
) -> None:
    hub = Hub(context, f"ipc://{tmp_path}")
    endpoint = workers_endpoint(f"ipc://{tmp_path}")
    # frozen, it would not connect again and take its name back
    old: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    old.identity, old.linger, old.reconnect_ivl = b"S1-0", 0, -1
    old.connect(endpoint)
    assert arrives(hub, old)
    with connect(context, endpoint, "S1-0") as new:

        def is_heard() -> bool:
            send(new, [b"it is me"])
            return [bytes(f) for f in receive(hub.workers) or ()] == [b"S1-0", b"it is me"]

        assert until(is_heard)  # and not what the old one had said last
        assert send(hub.workers, [b"for the new one"], b"S1-0")
        assert until(lambda: receive(new))
    old.close()
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
        make_keys(tmp_path / client, client)
        shutil.copy(hub / "hub.key", tmp_path / client)
    shutil.copy(tmp_path / "alice" / "alice.key", hub)
    return {name: tmp_path / name for name in ("alice", "mallory")} | {"hub": hub}


def test_key_files_are_for_their_owner_only(keys: dict[str, Path]) -> None:
    assert stat.S_IMODE(keys["hub"].stat().st_mode) == 0o700
    for name in ("hub.key", "hub.key_secret"):
        assert stat.S_IMODE((keys["hub"] / name).stat().st_mode) == 0o600


def test_keys_are_not_overwritten(keys: dict[str, Path]) -> None:
    before = (keys["hub"] / "hub.key_secret").read_bytes()
    with pytest.raises(NetworkError, match="has keys for 'hub' already"):
        make_keys(keys["hub"], "hub")
    assert (keys["hub"] / "hub.key_secret").read_bytes() == before


def test_nobody_else_gets_anything_through(
    context: zmq.Context[Any], keys: dict[str, Path], tmp_path: Path
) -> None:
    base = f"tcp://127.0.0.1:{free_port()}"
    hub = Hub(context, base, Keys(keys["hub"], "hub"))
    misled = tmp_path / "misled"  # alice's own keys, but another hub's
    shutil.copytree(keys["alice"], misled)
    make_keys(tmp_path / "other", "hub")
    shutil.copy(tmp_path / "other" / "hub.key", misled)
    without = connect(context, base, "without")
    foreign = connect(context, base, "foreign", Keys(keys["mallory"], "mallory"))
    wrong = connect(context, base, "wrong", Keys(misled, "alice"))
    with connect(context, base, "alice", Keys(keys["alice"], "alice")) as right:
        assert arrives(hub, right)
        assert senders(hub, right, without, foreign, wrong) == {b"alice"}
    for socket in (without, foreign, wrong):
        socket.close()
    hub.close()


def test_a_hub_without_its_pair_says_what_to_do(context: zmq.Context[Any], tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="is not a key pair"):
        Hub(context, f"tcp://127.0.0.1:{free_port()}", Keys(tmp_path, "hub"))


@pytest.mark.parametrize("damaged", ["alice.key_secret", "hub.key"])
def test_a_damaged_key_is_a_network_error(
    context: zmq.Context[Any], keys: dict[str, Path], damaged: str
) -> None:
    path = keys["alice"] / damaged
    path.write_text('curve\n    public-key = "short"\n    secret-key = "short"\n', "utf-8")
    with pytest.raises(NetworkError) as error:
        connect(context, "tcp://127.0.0.1:5555", "alice", Keys(keys["alice"], "alice"))
    assert error.value.subject == str(path)


@pytest.mark.parametrize("damage", ['curve\n    public-key = "short"\n', "", "\x00\x01"])
def test_a_damaged_key_on_the_allow_list_is_named_and_keeps_nobody_else_out_unnoticed(
    context: zmq.Context[Any], keys: dict[str, Path], damage: str
) -> None:
    (keys["hub"] / "bob.key").write_text(damage, "utf-8")
    with pytest.raises(NetworkError, match=r"bob\.key.*is not a public key") as error:
        Hub(context, "tcp://127.0.0.1:5999", Keys(keys["hub"], "hub"))
    assert "remove it" in error.value.remedy
