"""The mean of checkpoints, and which have none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from abhinaya.models.checkpoint import read, save
from abhinaya.train.cli import main as train


def checkpoint(folder: Path, value: float, seed: int = 0, **changes) -> str:
    folder.mkdir()
    extra = {
        "labels": ["sad", "happy"],
        "voter": {"model": "wavlm", "options": {"checkpoint": "."}},
        "recipe": {"seed": seed, "data": {"max_s": 10.0}, "train": {"batch": 4}},
        "figures": {"macro_f1": value},
    } | changes.pop("extra", {})
    tensors = {"a": torch.full((2, 3), value), "h": torch.full((1,), value).half()}
    save(folder / "model.safetensors", tensors | {"n": torch.tensor([3])} | changes, extra)
    (folder / "config.json").write_text("{}")
    (folder / "voter.toml").write_text(f'checkpoint = "{folder}"\n')
    return str(folder)


def test_the_soup_is_the_mean_and_stands_alone(tmp_path: Path) -> None:
    runs = [checkpoint(tmp_path / str(i), float(i), seed=i) for i in (1, 2, 6)]
    out = tmp_path / "out"
    assert train(["soup", *runs, "--out", str(out)]) == 0
    found = read(out)
    assert found.tensors["a"].tolist() == [[3.0] * 3] * 2
    assert (found.tensors["h"].dtype, found.tensors["h"].item()) == (torch.float16, 3.0)
    assert found.tensors["n"].item() == 3
    assert found.extra["voter"] == read(runs[0]).extra["voter"]
    assert found.extra["figures"] == {}
    assert found.extra["made_by"].startswith("abhinaya train soup ")
    assert (out / "voter.toml").read_text() == f'checkpoint = "{out}"\n'
    assert sorted(p.name for p in out.iterdir()) == [
        "config.json", "model.safetensors", "voter.toml",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"a": torch.ones(3, 3)}, "/1 in a;"),
        ({"more": torch.ones(1)}, "/1 in more;"),
        ({"a": torch.full((2, 3), torch.nan)}, "NaN"),
        ({"n": torch.tensor([4])}, "/1 in n;"),
        ({"extra": {"labels": ["happy", "sad"]}}, "/1 in labels;"),
        ({"extra": {"recipe": {"data": {"max_s": 5.0}, "train": {"batch": 8}, "seed": 9}}},
         "/1 in data.max_s, train.batch;"),
    ],
)  # fmt: skip
def test_what_has_no_mean_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict, words: str
) -> None:
    runs = [checkpoint(tmp_path / "1", 1.0), checkpoint(tmp_path / "2", 2.0, **changes)]
    assert train(["soup", *runs, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert train(["soup", runs[0], runs[0], "--out", str(tmp_path / "out")]) == 1
