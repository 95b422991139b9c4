"""cluster.toml: what it may say, and every fault of it by name, with the remedy."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from abhinaya.stream.cluster.actions import Wishes
from abhinaya.stream.cluster.load import load, parse
from abhinaya.stream.cluster.state import ClusterStatus, State
from abhinaya.stream.commands.cluster import main
from abhinaya.stream.errors import ConfigError

HERE = Path("/srv/cluster.toml")

TWO = """
name = "two"
[[cells]]
name = "a"
port = 7100
[[cells]]
name = "b"
port = 7102
"""

RAY = """
name = "three"
keys = "keys"
[ray]
[[machines]]
label = "m1"
address = "10.0.0.1"
head = true
[[machines]]
label = "m2"
address = "10.0.0.2"
[[cells]]
name = "a"
port = 7100
machines = ["m2"]
"""


def test_what_is_left_out_comes_from_the_profile(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(TWO + "[services.asr]\nmaximum = 3\n[settings.supervise]\nsilent_s = 2.5\n")
    cluster = load(path)
    assert not cluster.config.on_ray
    assert cluster.state == tmp_path / "state"
    assert cluster.keys is None
    assert cluster.run.supervise.silent_s == 2.5
    (asr,) = cluster.services().values()  # the others share its processes
    assert (asr.minimum, asr.maximum, asr.gives) == (1, 3, ("asr", "S1", "T2", "ST1"))
    on_ray = parse(tomllib.loads(RAY), HERE)
    assert on_ray.config.on_ray
    assert on_ray.keys == Path("/srv/keys")
    assert on_ray.config.ray is not None
    assert on_ray.config.ray.token_file == "/srv/keys/ray.token"


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("name = 'x'", ["cells is empty"]),
        ("nam = 'x'\ncells = 1", ["nam is not a setting, did you mean 'name'?", "name is missing",
                                  "cells must be an array of tables"]),
        (TWO.replace('"a"', '"A b"'), ["cells[0].name = 'A b' does not fit"]),
        (TWO.replace('"b"', '"a"'), ["two cells have the name 'a'"]),
        (TWO.replace("7102", "7101"), ["cells a and b use ports 7100 and 7101 on one machine"]),
        (TWO.replace("7102", "'7102'"), ["cells[1].port = '7102' does not fit"]),
        (TWO.replace("7102", "80"), ["cells[1].port = 80 is below 1024"]),
        (TWO + "[services.asrr]", ["services.asrr is not a service", "did you mean 'asr'?"]),
        (TWO + "[services.S1]", ["services.S1 shares the processes of asr: write services.asr"]),
        (TWO + "[services.asr]\nminimum=3\nmaximum=2",
         ["services.asr.minimum = 3 is above services.asr.maximum = 2"]),
        (TWO + "[services.asr]\nminimum=0\nmaximum=2", ["minimum = 0 switches the service off"]),
        (TWO + "[services.asr]\ngpus=1.5\ncpu=1",
         ["services.asr.cpu is not a setting, did you mean 'cpus'?"]),
        (TWO + "[services.asr]\ngpus=1.5", ["give whole GPUs, or a part of one"]),
        (TWO + "[services.asr]\nmachines=['gpu']", ["unknown machine 'gpu' (known: none)"]),
        (TWO.replace("two", "Two") + "[settings.vad]\npads=1",
         ["name = 'Two' does not fit", "vad.pads is not a setting"]),
        ("keys='~no-such-user/k'" + TWO, ["'~no-such-user/k' begins with a user that"]),
        ('profile="./a\\u0000b"\nstate="a\\u001bb"' + TWO,
         [r"'./a\x00b' is not a path", r"'a\x1bb' is not a path"]),
        (TWO + "profile='nix'", ["cells[1].profile is not a setting"]),
        ("profile='embeded'" + TWO, ["profile = 'embeded': is neither a profile of the package",
                                     "did you mean 'embedded'?"]),
        ("profile='nix.toml'" + TWO, ["profile = '/srv/nix.toml': is neither a profile"]),
        ("engine='kay'" + TWO, ["engine = 'kay' is not known"]),
        ("engine='ray'" + TWO, ["0 machines are the head", "keys is missing"]),
        (TWO + "[[machines]]\nlabel='m'\naddress='10.0.0.1'", ["but engine is local"]),
        (RAY.replace('"m2"\na', '"m1"\na'), ["two machines have the label 'm1'"]),
        (RAY.replace("10.0.0.2", "10.0.0.1"), ["two machines have the address 10.0.0.1"]),
        (RAY.replace("10.0.0.2", "gpu.lan"), ["'gpu.lan' is not an IPv4 address"]),
        (RAY.replace('["m2"]', '["m3"]'), ["unknown machine 'm3' (known: m1, m2)"]),
        (RAY.replace('["m2"]', '["m1"]'), ["no hub runs on the head"]),
        (RAY.replace("[ray]", "[ray]\nports=[1]\nreddis=''"), ["ray.reddis is not a setting"]),
        (RAY.replace("[ray]", "[ray]\nports=[1]"), ["ray.ports = [1] does not fit"]),
        (RAY.replace("[ray]", "[ray]\nport=10200"), ["without ray.port = 10200"]),
        (RAY.replace("[ray]", "[ray]\nredis='10.0.0.9:6379'"), ["is open to the network"]),
        (RAY.replace("[ray]", "[ray]\nredis='here'"), ["write HOST:PORT"]),
        (TWO + "[gateway]\nport=7103\nhost='0.0.0.0'", ["7103 is a port of the hub of cell b",
                                                       "is open to the network: set tls_cert"]),
        (TWO + "[gateway]\ntls_key='k'", ["TLS needs a certificate and its key"]),
    ],
)  # fmt: skip
def test_every_fault_is_named_at_once(text: str, faults: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(tomllib.loads(text), HERE)
    for fault in faults:
        assert fault in str(caught.value)


def test_two_cells_may_share_a_port_on_machines_of_their_own() -> None:
    more = RAY + '[[machines]]\nlabel="m3"\naddress="10.0.0.3"\n[[cells]]\nname="b"\nport=7100\n'
    parse(tomllib.loads(more + 'machines=["m3"]'), HERE)
    with pytest.raises(ConfigError, match="on one machine"):
        parse(tomllib.loads(more), HERE)


@pytest.mark.parametrize(
    ("content", "fault"), [(None, "does not exist"), (b"a = ", "cannot be read"), (b"\xff", "read"),
     (b"a = " + b"9" * 5000, "a number is too long"),
     (b"a = " + b"[" * 5000, "it is nested too deeply")],
)  # fmt: skip
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None, fault: str) -> None:
    path = tmp_path / "cluster.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=fault):
        load(path)


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        (["status"], "has the cluster two, which runs"),
        (["scale", "asr=2"], "has the cluster two, which runs"),
        (["down"], "has the cluster two, which runs"),
        (["scale", "asr=" + "9" * 5000], "is not a number of nodes"),
    ],
)
def test_commands_refuse_the_state_of_another_cluster_and_wild_numbers(
    tmp_path: Path, command: list[str], fault: str
) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(TWO if "9" in command[-1] else TWO.replace("two", "other"))
    state = State(tmp_path / "state")
    with state.locked():
        state.write_status(ClusterStatus(cluster="two", time=0.0))
        with pytest.raises(ConfigError, match=fault):
            main([command[0], str(path), *command[1:]])
        assert state.read_wishes() == Wishes()
