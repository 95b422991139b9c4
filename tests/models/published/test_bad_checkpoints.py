"""Checkpoints that transformers reads, damaged in the ways that happen: one line, a remedy."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_checkpoints
import torch
from safetensors.torch import load_file, save_file
from transformers import RobertaConfig, RobertaForSequenceClassification

from abhinaya.models import registry
from abhinaya.models.errors import (
    DamagedFileError,
    KeysError,
    MissingFileError,
    ModelError,
    RunError,
    WriteError,
)
from abhinaya.models.hugging_face import translated
from abhinaya.models.inference import place
from abhinaya.models.published.llama import load_llm
from abhinaya.models.registry import load

CPU = {"device": "cpu", "dtype": "float32"}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("roberta")
    size = tiny_checkpoints.save_tokenizer(folder, pad_token="<unk>")
    names = {"id2label": {0: "sad", 1: "joy"}, "label2id": {"sad": 0, "joy": 1}}
    config = RobertaConfig(**tiny_checkpoints.ROBERTA, vocab_size=size, pad_token_id=0, **names)
    tiny_checkpoints.shaken(RobertaForSequenceClassification(config)).save_pretrained(folder)
    return folder


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return shutil.copytree(whole, tmp_path / "model")


def refused(folder: Path, model: str = "text-classification") -> ModelError:
    with pytest.raises(ModelError) as caught:
        load(model, {"model": str(folder), **CPU})
    assert caught.value.remedy
    assert len(str(caught.value)) < 600
    return caught.value


@pytest.mark.parametrize(
    ("name", "content", "kind", "message"),
    [
        ("model.safetensors", POINTER, DamagedFileError, r"model\.safetensors: .*git-lfs pointer"),
        ("tokenizer.json", POINTER, DamagedFileError, r"tokenizer\.json: .*git-lfs pointer"),
        ("model.safetensors", None, MissingFileError, "no file named model.safetensors"),
        ("model.safetensors", b"", DamagedFileError, "not whole"),
        ("tokenizer.json", b"{", KeysError, "cannot build it"),
        ("tokenizer.json", b'{"version": "1.0"}', KeysError, "cannot build it"),
        ("config.json", b"{", MissingFileError, "not a valid JSON file"),
        ("config.json", b"[]", KeysError, "cannot build it"),
        ("config.json", b'{"model_type": "nosuch"}', KeysError, "`nosuch`"),
    ],
)
def test_a_damaged_file(copy, name, content, kind, message) -> None:
    if content is None:
        (copy / name).unlink()
    else:
        (copy / name).write_bytes(content)
    error = refused(copy)
    assert isinstance(error, kind), error
    assert re.search(message, str(error)), error


def test_a_truncated_weight_file(copy) -> None:
    content = (copy / "model.safetensors").read_bytes()
    for share in (0.1, 0.5, 0.99):
        (copy / "model.safetensors").write_bytes(content[: int(share * len(content))])
        error = refused(copy)
        assert isinstance(error, DamagedFileError)
        assert "not whole" in error.reason


class Code:
    """Unpickling it would make a file; what an attacker would do is worse."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_code_in_a_pickle_is_never_run(copy, tmp_path) -> None:
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(weights | {"x": Code(tmp_path / "it-ran")}, copy / "pytorch_model.bin")
    error = refused(copy)
    assert isinstance(error, DamagedFileError)
    assert "holds code, which is never run" in error.reason
    assert not (tmp_path / "it-ran").exists()


def test_the_whole_one_loads_and_the_wrong_kind_does_not(copy, tmp_path) -> None:
    assert load("text-classification", {"model": str(copy), **CPU}).card.labels == ("happy", "sad")
    assert "feature extractor" in str(refused(copy, "audio-classification"))
    llm = tiny_checkpoints.save_llm(tmp_path / "llm")
    assert "score.weight" in str(refused(llm))
    with pytest.raises(KeysError, match="would be random"):
        load_llm(str(copy), place("cpu", "float32"))


def test_nan_in_a_language_model(tmp_path) -> None:
    llm = tiny_checkpoints.save_llm(tmp_path)
    weights = load_file(llm / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, llm / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(KeysError, match=r"NaN or infinite: norm\.weight"):
        load_llm(str(llm), place("cpu", "float32"))


def test_a_full_disk_while_downloading() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    wrapped = OSError("Can't load the model")
    wrapped.__cause__ = full
    with pytest.raises(WriteError, match=r"disk is full; make room, or set HF_HOME") as caught:  # noqa: SIM117
        with translated("some/model"):
            raise wrapped
    assert caught.value.__cause__ is wrapped


def register(monkeypatch, error: Exception) -> None:
    """Put a model called `big` into the registry that cannot be loaded for this reason."""

    def factory() -> None:
        raise error

    monkeypatch.setitem(sys.modules, "big_model", SimpleNamespace(factory=factory))
    monkeypatch.setattr(registry, "MODELS", {"big": ("big_model", "factory")})


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 26 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_no_memory_for_the_weights(error, monkeypatch) -> None:
    register(monkeypatch, error)
    with pytest.raises(RunError, match=r"no memory for its weights.*quantize"):
        load("big")


def test_other_errors_of_a_model_pass_as_they_are(monkeypatch) -> None:
    register(monkeypatch, RuntimeError("a mistake of ours"))
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        load("big")
