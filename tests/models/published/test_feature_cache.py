"""Features of frozen encoders on disk: computed once, and never wrong."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from abhinaya.models.errors import RunError
from abhinaya.models.published.feature_cache import FeatureCache, features_of, item_key, model_key

WAVE = np.arange(8, dtype=np.float32)
ITEM_BYTES = 40_000


def item(i: int) -> dict[str, torch.Tensor]:
    return {"x": torch.full((ITEM_BYTES // 4,), float(i))}


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_an_item_is_found_by_model_and_content_in_its_own_types(tmp_path: Path) -> None:
    weights = tmp_path / "encoder"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(b"one")
    model = model_key(weights, layers="last")
    cache = FeatureCache(tmp_path / "cache", 1.0)
    stored = {"speech": torch.randn(3, 4).bfloat16(), "n": torch.tensor(7)}
    cache.put(item_key(model, WAVE), stored)
    found = FeatureCache(tmp_path / "cache", 1.0).get(item_key(model, WAVE.copy()))
    assert found is not None
    assert {k: (t.dtype, t.tolist()) for k, t in found.items()} == {
        k: (t.dtype, t.tolist()) for k, t in stored.items()
    }
    (weights / "model.safetensors").write_bytes(b"two")  # another version of the encoder
    others = [
        item_key(model_key(weights, layers="last"), WAVE),
        item_key(model_key(weights, layers="sum:4"), WAVE),
        item_key(model, WAVE + 1e-6),
        item_key(model, "a text"),
    ]
    assert [cache.get(key) for key in others] == [None] * 4
    assert cache.counts() == {"hits": 0, "misses": 4}


@pytest.mark.parametrize("damage", ["cut", "bit", "empty"])
def test_a_damaged_item_is_removed_and_computed_again(tmp_path: Path, damage: str) -> None:
    cache, key = FeatureCache(tmp_path, 1.0), item_key("m", WAVE)
    cache.put(key, item(1))
    (file,) = files_of(tmp_path)
    whole = bytearray(file.read_bytes())
    whole[-5] ^= 1
    file.write_bytes({"cut": whole[:-9], "bit": whole, "empty": b""}[damage])
    (again,) = features_of(cache, ["a.wav"], [key], lambda missing: [item(1)])
    assert again["x"].equal(item(1)["x"])
    found = cache.get(key)
    assert found is not None
    assert found["x"].equal(item(1)["x"])
    assert cache.counts() == {"hits": 1, "misses": 1}


def test_only_what_is_missing_is_computed_and_numbers_must_be_numbers(tmp_path: Path) -> None:
    cache, asked = FeatureCache(tmp_path, 1.0), list[list[int]]()

    def compute(missing: list[int]) -> list[dict[str, torch.Tensor]]:
        asked.append(missing)
        return [item(i) for i in missing]

    cache.put("aa1", item(1))
    for _ in range(2):
        found = features_of(cache, list("wxyz"), ["aa0", "aa1", "", "aa3"], compute)
        assert [float(f["x"][0]) for f in found] == [0, 1, 2, 3]
    assert asked == [[0, 2, 3], [2]]  # augmented audio has no key: never stored
    bad = {"x": torch.tensor([1.0, float("nan")])}
    for used in (cache, None):
        with pytest.raises(RunError, match=r"b\.wav: the encoder's features \(x\) hold values"):
            features_of(
                used, ["a.wav", "b.wav"], ["aa0", "bb1"], lambda m: [item(0), bad][-len(m) :]
            )
    assert cache.get("bb1") is None


def test_the_oldest_use_goes_first_and_what_this_run_uses_stays(tmp_path: Path) -> None:
    limit_gb = 60 * ITEM_BYTES / 1e9
    earlier = FeatureCache(tmp_path, limit_gb)
    for i in range(40):
        earlier.put(f"{i:04}", item(i))
    long_ago = time.time() - 1e5
    for path in files_of(tmp_path):
        os.utime(path, (long_ago + int(path.stem), long_ago + int(path.stem)))
    said = list[str]()
    cache = FeatureCache(tmp_path, limit_gb, said.append)
    assert cache.get("0003") is not None
    for i in range(40, 120):
        cache.put(f"{i:04}", item(i))
        assert sum(path.stat().st_size for path in files_of(tmp_path)) <= limit_gb * 1e9
    assert len(said) == 1
    assert "is full" in said[0]
    kept = {int(path.stem) for path in files_of(tmp_path)}
    assert 3 in kept  # used
    assert 0 not in kept  # the longest ago
    assert {*range(40, 70)} <= kept  # a later epoch of this run finds what it stored


def write_many(folder: Path, limit_gb: float, worker: int) -> None:
    torch.set_num_threads(1)
    for round_ in range(10_000):
        if round_ % 30 == 0:  # another run: it may remove what the one before has used
            cache = FeatureCache(folder, limit_gb, lambda line: None)
        i = (round_ * 7 + worker) % 60
        key = f"{i:02}{i:02}"
        found = cache.get(key)
        assert found is None or found["x"].equal(item(i)["x"])
        cache.put(key, item(i))


@pytest.mark.processes
def test_several_processes_and_kills_leave_only_whole_items_within_the_limit(
    tmp_path: Path,
) -> None:
    limit_gb, fork = 40 * ITEM_BYTES / 1e9, multiprocessing.get_context("fork")
    started = [fork.Process(target=write_many, args=(tmp_path, limit_gb, w)) for w in range(4)]
    for process in started:
        process.start()
    until = time.monotonic() + 2.0
    most = 0
    while time.monotonic() < until:
        sizes = []
        for path in files_of(tmp_path):
            try:
                sizes.append(path.stat().st_size)
            except FileNotFoundError:  # removed or renamed meanwhile
                continue
        most = max(most, sum(sizes))
        time.sleep(0.02)
    assert all(process.is_alive() for process in started)  # none met a damaged item or an error
    for process in started:
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    assert 0 < most <= limit_gb * 1e9
    stale = tmp_path / "features-1" / "00" / "0000-dead.tmp"
    stale.parent.mkdir(exist_ok=True)
    stale.write_bytes(b"half")
    os.utime(stale, (1.0, 1.0))
    cache = FeatureCache(tmp_path, limit_gb)
    assert not stale.exists()
    whole = [path for path in files_of(tmp_path) if path.suffix == ".safetensors"]
    for path in whole:
        found = cache.get(path.stem)
        assert found is not None
        assert found["x"].equal(item(int(path.stem[:2]))["x"])


@contextmanager
def full_disk(most_bytes: int) -> Iterator[None]:
    """The kernel refuses larger files, as a full disk or a quota would."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_ends_the_writing_and_not_the_run(tmp_path: Path) -> None:
    said = list[str]()
    cache = FeatureCache(tmp_path, 1.0, said.append)
    cache.put("aa", item(1))
    with full_disk(1_000):
        for i in range(3):
            cache.put(f"bb{i}", item(i))
    (line,) = said
    assert "cannot be written" in line
    assert "computed each time" in line
    assert [path.stem for path in files_of(tmp_path)] == ["aa"]
    assert cache.get("aa") is not None
