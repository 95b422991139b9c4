"""The keys of a cluster: made once, complete for each cell, refused where others can read them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from abhinaya.stream.cluster import keys
from abhinaya.stream.cluster.config import Cluster
from abhinaya.stream.cluster.load import parse
from abhinaya.stream.errors import NetworkError
from abhinaya.stream.wire.keys import ROLES, Keys, make_keys, read_pair, read_public

CELLS = "".join(
    f"[[cells]]\nname='{name}'\nport={port}\n" for name, port in (("a", 7100), ("b", 7102))
)


def cluster(folder: Path) -> Cluster:
    return parse(tomllib.loads(f"name='t'\nkeys='keys'\n{CELLS}"), folder / "cluster.toml")


def test_all_keys_are_made_once_and_a_further_client_is_admitted_by_every_cell(
    tmp_path: Path,
) -> None:
    two = cluster(tmp_path)
    new = keys.make(two)
    assert len(new) == len(ROLES) + 2 * (1 + len(ROLES))
    keys.check(two)
    assert keys.make(two) == []
    assert two.keys is not None
    for cell in ("a", "b"):
        folder = keys.cell_keys(two.keys, cell)
        public, _ = read_pair(Keys(folder, "hub"))
        assert keys.public_key(two, cell) == public.decode()
        assert {read_public(folder / f"{role}.key").role for role in ROLES} == set(ROLES)
    make_keys(keys.client_keys(two.keys), "studio", "input")
    assert {path.name for path in keys.make(two)} == {"studio.key"}


def test_what_is_missing_or_open_is_named_at_once(tmp_path: Path) -> None:
    two = cluster(tmp_path)
    assert two.keys is not None
    with pytest.raises(NetworkError) as caught:
        keys.check(two)
    for name in ("clients/operator.key_secret", "cells/a/hub.key", "cells/b/hub.key"):
        assert name in str(caught.value)
    assert "are missing; `abhinaya cluster keys` makes keys" in str(caught.value)
    keys.make(two)
    opened = keys.cell_keys(two.keys, "b") / "hub.key_secret"
    opened.chmod(0o644)
    for look in (keys.make, keys.check):
        with pytest.raises(NetworkError, match="can be read by others; `chmod 600"):
            look(two)
    opened.chmod(0o600)
    opened.parent.chmod(0o777)
    with pytest.raises(NetworkError, match="can be written by others"):
        keys.check(two)


def test_each_machine_needs_only_the_keys_of_what_may_run_there(tmp_path: Path) -> None:
    machines = "".join(
        f"[[machines]]\nlabel='m{n}'\naddress='10.0.0.{n}'\nhead={'true' if n == 1 else 'false'}\n"
        for n in (1, 2, 3)
    )
    text = f"name='t'\nkeys='keys'\n[ray]\n{machines}{CELLS}machines=['m3']\n"
    three = parse(tomllib.loads(text), tmp_path / "cluster.toml")
    needed = {}
    for label in ("m1", "m2", "m3"):
        with pytest.raises(NetworkError) as caught:
            keys.check(three, label)
        needed[label] = {
            "/".join(Path(part.rstrip(":")).parts[-2:])
            for part in str(caught.value).partition(" are missing")[0].split(", ")
        }
    assert needed == {
        "m1": {"clients/node.key_secret", "clients/operator.key_secret", "a/hub.key", "b/hub.key"},
        "m2": {"clients/node.key_secret", "a/hub.key_secret"},
        "m3": {"clients/node.key_secret", "a/hub.key_secret", "b/hub.key_secret"},
    }
