"""Files of weights are compared with their SHA-256: packaged ones always, others if it is known."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import pytest

from abhinaya.models import sums
from abhinaya.models.errors import DamagedFileError
from abhinaya.models.hugging_face import locate
from abhinaya.models.tiny import metadata
from abhinaya.models.vote.combiner_file import read_combiner

PACKAGED = Path(str(resources.files("abhinaya.models.tiny.weights")))
VOTE = "tiny-vote.json"
FILES = [p for p in PACKAGED.iterdir() if p.suffix in (".onnx", ".safetensors") or p.name == VOTE]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_sum_of_each_packaged_file_is_known_and_right(path: Path) -> None:
    assert sums.check(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_200_kb_of_zeros_are_noticed(path: Path, tmp_path: Path, monkeypatch) -> None:
    shutil.copytree(PACKAGED, tmp_path, dirs_exist_ok=True)
    copy = tmp_path / path.name
    content = bytearray(copy.read_bytes())
    if path.suffix == ".json":
        content = bytearray(content.replace(b"0.461", b"0.061"))
    else:
        middle = len(content) // 2
        content[middle : middle + 200_000] = bytes(len(content[middle : middle + 200_000]))
    copy.write_bytes(content)
    if path.suffix == ".json":
        with pytest.raises(DamagedFileError, match="SHA-256 begins with"):
            read_combiner(copy)
        return
    with pytest.raises(DamagedFileError, match="SHA-256 begins with"):
        metadata.find(path.stem, path.suffix, str(copy))
    monkeypatch.setattr(metadata, "FOLDER", tmp_path)
    (tmp_path / sums.SUMS).unlink()
    with pytest.raises(DamagedFileError, match="is not in SHA256SUMS"):
        metadata.find(path.stem, path.suffix)


def test_a_file_of_the_hub_is_compared_with_its_name_in_the_cache(tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.write_bytes(b"weights")
    blob = tmp_path / "blobs" / sums.sum_of(content)
    blob.parent.mkdir()
    blob.write_bytes(b"weights")
    (tmp_path / "model.safetensors").symlink_to(blob)
    assert sums.check(tmp_path / "model.safetensors")
    blob.write_bytes(b"weightz")
    with pytest.raises(DamagedFileError, match="damaged or changed"):
        sums.check(tmp_path / "model.safetensors")


def test_a_new_sum_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    for content in (b"one", b"two", b"two"):
        path.write_bytes(content)
        sums.record(path)
        assert sums.check(path)
    assert len((tmp_path / sums.SUMS).read_text().splitlines()) == 1


def test_a_folder_for_transformers_is_checked_before_it_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert locate(str(tmp_path)) == tmp_path, "without a known sum there is nothing to compare"
    (tmp_path / sums.SUMS).write_text(f"{'0' * 64}  model.safetensors\n")
    with pytest.raises(DamagedFileError, match=r"model\.safetensors: it is damaged or changed"):
        locate(str(tmp_path))
