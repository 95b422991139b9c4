from __future__ import annotations

import json
import pickle

import pytest
import torch
from torch import nn

from abhinaya.models import checkpoint
from abhinaya.models.checkpoint import check_finite, convert, fill, read, renamed, save
from abhinaya.models.errors import (
    DamagedFileError,
    KeysError,
    MissingFileError,
    ModelError,
    WriteError,
)

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def linear() -> nn.ModuleDict:
    return nn.ModuleDict({"a": nn.Linear(3, 2)})


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == WEIGHTS.keys() and all(torch.equal(found[k], WEIGHTS[k]) for k in found)


# --- reading ----------------------------------------------------------------------------


def test_safetensors_and_torch_files_read_the_same(tmp_path) -> None:
    save(tmp_path / "w.safetensors", WEIGHTS, {"cfg": {"layers": 2}})
    torch.save({"model": WEIGHTS, "cfg": {"layers": 2}}, tmp_path / "wrapped.pth")
    torch.save(WEIGHTS, tmp_path / "flat.pt")
    torch.save(WEIGHTS, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    for name in ("w.safetensors", "wrapped.pth", "flat.pt", "old.bin"):
        assert same(read(tmp_path / name).tensors), name
    assert read(tmp_path / "w.safetensors").extra["cfg"] == {"layers": 2}
    assert read(tmp_path / "wrapped.pth").extra["cfg"] == {"layers": 2}


def test_folders_sharded_or_not(tmp_path) -> None:
    whole, shards = tmp_path / "whole", tmp_path / "shards"
    whole.mkdir()
    shards.mkdir()
    torch.save(WEIGHTS, whole / "pytorch_model.bin")
    assert same(read(whole).tensors)
    for i, key in enumerate(WEIGHTS):
        save(shards / f"{i}.safetensors", {key: WEIGHTS[key]})
    index = {"weight_map": {key: f"{i}.safetensors" for i, key in enumerate(WEIGHTS)}}
    (shards / "model.safetensors.index.json").write_text(json.dumps(index))
    assert same(read(shards).tensors)
    (shards / "1.safetensors").unlink()
    with pytest.raises(MissingFileError, match=r"1\.safetensors"):
        read(shards)
    (shards / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(DamagedFileError, match="not an index of shards"):
        read(shards)


def test_a_prefix_selects_and_is_taken_off(tmp_path) -> None:
    tensors = {f"model.encoder.{k}": v for k, v in WEIGHTS.items()} | {"model.x": torch.ones(1)}
    save(tmp_path / "w.safetensors", tensors)
    torch.save(tensors, tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        assert same(read(tmp_path / name, "model.encoder.").tensors)


def test_converting_keeps_keys_values_aliases_and_cfg(tmp_path) -> None:
    tensors = WEIGHTS | {"alias": WEIGHTS["a.weight"], "view": WEIGHTS["a.weight"].T}
    torch.save(
        {"model": tensors, "cfg": {"n": 1}, "optimizer": {0: torch.ones(1)}}, tmp_path / "w.pth"
    )
    convert(tmp_path / "w.pth", tmp_path / "w.safetensors")
    found = read(tmp_path / "w.safetensors")
    assert found.tensors.keys() == tensors.keys()
    assert all(torch.equal(found.tensors[k], tensors[k]) for k in tensors)
    assert found.extra == {"cfg": {"n": 1}}


# --- bad files --------------------------------------------------------------------------


class Code:
    """Unpickling it would run `print`; what an attacker would put there is worse."""

    def __reduce__(self):
        return (print, ("this code ran",))


def test_a_missing_file_and_an_empty_folder(tmp_path) -> None:
    with pytest.raises(MissingFileError, match=r"salmonn_v1\.pth: it does not exist"):
        read(tmp_path / "salmonn_v1.pth")
    with pytest.raises(MissingFileError, match=r"none of model\.safetensors"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git-lfs pointer"),
        (b"<!DOCTYPE html><html>sign in</html>", "web page"),
        (b"", "0 bytes are not a whole checkpoint"),
        (b"\x00\x01\x02" * 99, "not a whole checkpoint"),
        (b"not a checkpoint at all", "not a whole checkpoint"),
    ],
)
def test_files_that_are_something_else(tmp_path, content, message) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(DamagedFileError, match=message):
        read(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "old.pth"])
def test_truncated_files(tmp_path, name) -> None:
    big = {"a": torch.randn(64, 64)}
    if name == "w.safetensors":
        save(tmp_path / name, big)
    else:
        torch.save(big, tmp_path / name, _use_new_zipfile_serialization=name != "old.pth")
    content = (tmp_path / name).read_bytes()
    for share in (0.05, 0.5, 0.99):
        (tmp_path / name).write_bytes(content[: int(share * len(content))])
        with pytest.raises(DamagedFileError, match="not a whole checkpoint"):
            read(tmp_path / name)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_named_and_never_run(tmp_path, capsys, zipped) -> None:
    torch.save(
        {"model": WEIGHTS, "x": Code()}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(DamagedFileError, match="holds code") as caught:
        read(tmp_path / "w.pth")
    assert "print" in str(caught.value)
    assert capsys.readouterr().out == ""


def test_a_whole_pickled_module_and_a_list_are_refused(tmp_path) -> None:
    for content, message in ((nn.Linear(2, 2), "Linear.*state_dict"), ([1], "holds a list")):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(DamagedFileError, match=message):
            read(tmp_path / "w.pth")


# --- writing ----------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_file_and_no_part(tmp_path, monkeypatch) -> None:
    with pytest.raises(WriteError, match="cannot be written"):
        save(tmp_path / "none" / "w.safetensors", WEIGHTS)
    save(tmp_path / "w.safetensors", WEIGHTS)

    def full(tensors, path, metadata) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(WriteError, match="No space left"):
        save(tmp_path / "w.safetensors", {"b": torch.ones(1)})
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
    assert same(read(tmp_path / "w.safetensors").tensors)


# --- accounting -------------------------------------------------------------------------


def test_fill_takes_every_weight() -> None:
    module = linear()
    fill(module, WEIGHTS, "file")
    assert same(module.state_dict())
    check_finite({"integers": torch.arange(3)}, "file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a.bias": None}, r"1 weights are missing: a\.bias"),
        ({"b.weight": torch.ones(1)}, r"1 are not of this model: b\.weight"),
        ({"a.bias": torch.ones(5)}, r"a\.bias \[5\] in place of \[2\]"),
        ({"a.bias": torch.tensor([1.0, float("nan")])}, r"NaN or infinite: a\.bias"),
        ({"a.bias": torch.tensor([1.0, float("inf")])}, r"NaN or infinite: a\.bias"),
    ],
)
def test_fill_refuses_what_does_not_fit(change, message) -> None:
    tensors = {k: v for k, v in (WEIGHTS | change).items() if v is not None}
    module = linear()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with pytest.raises(KeysError, match=message):
        fill(module, tensors, "file")
    assert all(torch.equal(module.state_dict()[k], before[k]) for k in before)


def test_keys_that_may_be_there_are_named_by_pattern_and_long_lists_are_cut() -> None:
    tensors = {f"x.{i:02}": torch.ones(1) for i in range(20)}
    with pytest.raises(KeysError, match=r"2 weights are missing.*20 are not.* and 12 more"):
        fill(linear(), tensors, "file")
    fill(linear(), WEIGHTS | {"l.3.inv_freq": torch.ones(1)}, "f", ignored=(r"l\.\d+\.inv_freq",))
    with pytest.raises(KeysError, match="not_inv_freq"):
        fill(linear(), WEIGHTS | {"not_inv_freq": torch.ones(1)}, "f", ignored=("inv_freq",))


def test_prefixes_are_exchanged_once_and_never_collide() -> None:
    one = torch.ones(1)
    assert renamed({"old.x": one, "y": one}, {"old.": "new."}).keys() == {"new.x", "y"}
    with pytest.raises(KeysError, match=r"two tensors are called new\.x"):
        renamed({"old.x": one, "new.x": one}, {"old.": "new."})


def test_errors_cross_process_boundaries() -> None:
    error = pickle.loads(pickle.dumps(KeysError("file", "reason", "remedy")))
    assert isinstance(error, ModelError)
    assert str(error) == "file: reason; remedy"


def test_a_weight_that_changed_on_the_disk_is_noticed(tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    save(path, WEIGHTS)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match="not those that were written"):
        read(path)
