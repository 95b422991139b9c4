"""S2 and ST1 with the features of their frozen encoders on disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState
from trainer_fakes import logged, shrunk, tones

from abhinaya.models.checkpoint import read, save
from abhinaya.models.published.audio_encoders import AudioEncoders
from abhinaya.train.cli import main


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many waves each call of the encoders got."""
    calls = list[int]()
    encode: Any = AudioEncoders._encode

    def count(self: AudioEncoders, waves: list[Any]) -> Any:
        calls.append(len(waves))
        return encode(self, waves)

    monkeypatch.setattr(AudioEncoders, "_encode", count)
    monkeypatch.setattr("abhinaya.models.published.audio_encoders.CACHED_SEGMENTS", 0)
    return calls


@pytest.mark.parametrize("recipe", ["s2", "st1"])
def test_the_second_epoch_computes_no_frozen_encoder_and_learns_the_same(
    recipe: str, models: Path, tmp_path: Path, encoded: list[int]
) -> None:
    manifest = tones(tmp_path / "tones", takes=1)
    cache = f"run.cache={tmp_path / 'cache'}"
    settings = [*shrunk(recipe, models), "train.epochs=2", "train.rate=1e-3", "data.crop=once"]
    settings.append("data.max_s=0.6")  # longer clips are cut at one place in all epochs

    def run(name: str, *more: str) -> Path:
        changed = [word for s in (*settings, *more) for word in ("--set", s)]
        out = tmp_path / name
        assert main([recipe, "--data", str(manifest), "--out", str(out), *changed]) == 0
        AcceleratorState._reset_state(True)
        return out

    plain = run("plain")
    assert sum(encoded) == 2 * 24  # 16 to train on, 8 to validate on, two epochs
    encoded.clear()
    stored = run("stored", cache)
    assert sum(encoded) == 24
    first, second = logged(stored, "cache")
    assert (first["hits"], first["misses"]) == (0, 24)
    assert (second["hits"], second["misses"]) == (24, 0)
    for kind in ("step", "validation"):
        for one, other in zip(logged(plain, kind), logged(stored, kind), strict=True):
            assert other["loss"] == pytest.approx(one["loss"], abs=1e-5)
    encoded.clear()
    run("again", cache)
    assert not encoded  # a later run finds all of it
    if recipe == "s2":  # another encoder finds none of it
        other = shutil.copytree(models / "whisper", tmp_path / "whisper")
        weights = {name: 1.1 * t for name, t in read(other).tensors.items()}
        save(other / "model.safetensors", weights)
        run("other", cache, f"model.options.whisper={other}")
        assert sum(encoded) == 24
