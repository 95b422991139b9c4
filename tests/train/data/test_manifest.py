from __future__ import annotations

import json
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
from hostile_text import HOSTILE

from abhinaya.models.labels import LABELS
from abhinaya.train.data.check import check, require
from abhinaya.train.data.cli import main
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.manifest import (
    Manifest,
    balanced,
    named,
    read_manifest,
    read_names,
    write_manifest,
)
from abhinaya.train.data.tables import rows_of
from abhinaya.train.errors import DataError


def clips(per_class: int = 10) -> list[Clip]:
    return [
        Clip(f"{label}-{i}", "x", f"s{i}", {label: 1.0}, path=f"a/{label}-{i}.wav", split="dev")
        for label in LABELS
        for i in range(per_class)
    ]


def test_votes_are_kept_and_the_rest_is_derived() -> None:
    clip = Clip("a", "x", votes={"sad": 2, "angry": 1, "other": 1})
    assert clip.consensus == clip.label == "sad"
    assert Clip("b", "x", votes={"sad": 2, "angry": 2}).consensus is None
    assert Clip("c", "x").consensus is None
    assert Clip("d", "x", votes={"other": 3}).label is None


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    rich = Clip(
        "é", "x", "s", {"sad": 0.5, "other": 2.0}, "p.wav", "test1", {"Annoyed": 1.0},
        {"valence": 0.0}, 'said "so"', "asr", True, "speech", "f", "pl", 0.0, 1.5, "sad",
    )  # fmt: skip
    manifest = Manifest(tmp_path, (rich, *clips(1)))
    write_manifest(tmp_path / "m.jsonl", manifest)
    assert read_manifest(tmp_path / "m.jsonl") == manifest
    assert read_manifest(tmp_path / "m.jsonl", Path("/else")).root == Path("/else")
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "m.jsonl:2: is not JSON"),
        ("[]", "m.jsonl:2: is not a JSON object"),
        ('{"id": "a"}', "m.jsonl:2: not a clip: .*corpus"),
        ('{"id": 5, "corpus": "x"}', "not a clip: Expected `str`"),
        ('{"id": "a", "corpus": "x", "votes": ["sad"]}', "not a clip: Expected `object`"),
        ('{"id": "a", "corpus": "x", "votes": {"sad": "1"}}', "m.jsonl:2: not a clip"),
        ('{"id": "a", "corpus": "x", "votes": {"sad": NaN}}', "counts must be 0 or more"),
        ('{"id": "a", "corpus": "x", "mood": 1}', r"unknown fields \['mood'\]"),
        (
            '{"id": "a", "corpus": "x", "votes": {"glee": 1}}',
            r":2: clip a: unknown labels \['glee'\]",
        ),
        ('{"id": "a", "corpus": "x"}\n{"id": "a", "corpus": "x"}', ":3: clip 'a' comes twice"),
    ],
)
def test_a_broken_manifest_names_the_line(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"schema": "abhinaya.manifest/1", "root": "/"}\n' + line + "\n")
    with pytest.raises(DataError, match=message):
        read_manifest(path)


@pytest.mark.parametrize("content", [None, "", '{"schema": "other/1"}\n', "path,label\n"])
def test_what_is_no_manifest_says_how_to_make_one(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "m.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"abhinaya data prepare|is not JSON"):
        read_manifest(tmp_path / "m.jsonl")


def test_a_balanced_set_has_as_many_of_each_by_seed() -> None:
    chosen = balanced(clips(), per_class=4, seed=1)
    counts = {label: sum(c.label == label for c in chosen) for label in LABELS}
    assert counts == dict.fromkeys(LABELS, 4)
    assert chosen == balanced(clips(), per_class=4, seed=1)
    assert chosen != balanced(clips(), per_class=4, seed=2)
    with pytest.raises(DataError, match=r"fewer than 11 clips of angry \(10\).*ask for 10"):
        balanced(clips(), per_class=11)


def test_a_list_picks_by_id_path_or_bare_name() -> None:
    chosen = named(clips(), ["sad-3.wav", "angry-0", "fear-9.opus"])
    assert [c.id for c in chosen] == ["sad-3", "angry-0", "fear-9"]
    with pytest.raises(DataError, match=r"1 of 2 are not in the manifest.*glee-1"):
        named(clips(), ["sad-1", "glee-1"])


def test_a_name_of_several_clips_is_refused_and_an_id_is_not() -> None:
    """MELD calls clips of each of its splits dia0_utt0."""
    same = [Clip(f"{s}_dia0_utt0", "meld", path=f"{s}/dia0_utt0.mp4") for s in ("train", "dev")]
    assert [c.id for c in named(same, ["dev_dia0_utt0"])] == ["dev_dia0_utt0"]
    with pytest.raises(DataError, match=r"1 of 1 are names of several clips; use their ids"):
        named(same, ["dia0_utt0.mp4"])
    with pytest.raises(DataError, match=r"'sad-1.wav' is listed before by another name"):
        named(clips(), ["sad-1", "fear-1", "sad-1.wav"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.txt", b"\n \n", "names no clip"),
        ("l.json", b'{"path": []}', "names no clip"),
        ("l.json", b"[1]", "holds no list of names"),
        ("l.json", b"[", "is not JSON"),
        ("l.txt", b"a.wav\nb.wav\na.wav\n", "names 1 clips more than once, the first 'a.wav'"),
        ("l.txt", b"\xff\xfe", "cannot be read as text"),
    ],
)
def test_a_broken_list_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: {message}"):
        read_names(tmp_path / name)


def write_noise(path: Path, rate: int, rng: np.random.Generator) -> None:
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(rng.integers(-3_000, 3_000, 4_000).astype("<i2").tobytes())


def write_wave(path: Path, samples: np.ndarray) -> None:
    """Write samples as floats, which may be NaN."""
    kind = struct.pack("<IHHIIHH", 16, 3, 1, 16_000, 64_000, 4, 32)
    data = b"data" + struct.pack("<I", samples.nbytes) + samples.tobytes()
    whole = b"WAVEfmt " + kind + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(whole)) + whole)


# --- check ----------------------------------------------------------------------------------------


@pytest.fixture
def planted(tmp_path: Path) -> Manifest:
    """One clip of each fault, and two that are well."""
    rng = np.random.default_rng(0)
    for name, rate in (("good", 16_000), ("better", 16_000), ("slow", 8_000)):
        write_noise(tmp_path / f"{name}.wav", rate, rng)
    (tmp_path / "copy.wav").write_bytes((tmp_path / "good.wav").read_bytes())
    (tmp_path / "noise.wav").write_bytes(b"RIFF but nothing else")
    write_wave(tmp_path / "nan.wav", np.array([0.1, np.nan, 0.1] * 99, "<f4"))
    names = ("good", "better", "slow", "copy", "noise", "nan", "gone")
    made = [Clip(n, "x", f"s{i}", {"sad": 1}, f"{n}.wav", "train") for i, n in enumerate(names)]
    torn = Clip("torn", "x", "s0", {"fear": 1}, split="dev", kind="text")
    return Manifest(tmp_path, (*made, torn))


def test_check_finds_what_was_planted_and_nothing_else(planted: Manifest) -> None:
    found = {(f.kind, f.subject) for f in check(planted, rate=16_000)}
    assert found == {
        ("missing", "gone"),
        ("corrupt", "noise"),
        ("corrupt", "nan"),
        ("rate", "slow"),
        ("duplicate", "copy"),
        ("speaker", "s0"),
        ("label", "sad"),
        ("label", "fear"),
    }
    assert not [f for f in check(planted) if f.kind == "rate"]


def test_too_many_missing_files_stop_and_are_named(planted: Manifest) -> None:
    findings = check(planted)
    with pytest.raises(
        DataError, match=r"3 of 7 audio files .*25.0% allowed.*gone.wav.*--max-missing"
    ):
        require(planted, findings, 0.25)
    require(planted, findings, 0.43)
    for share in (-0.1, 1.5, float("nan")):
        with pytest.raises(DataError, match="is not a share from 0 to 1"):
            require(planted, findings, share)


# --- the command ----------------------------------------------------------------------------------


def test_prepare_check_and_stats_from_a_csv(
    planted: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    table = planted.root / "mine.csv"
    table.write_text("path,label,speaker\ngood.wav,sad,a\nbetter.wav,joy,b\n")
    out = planted.root / "deep" / "m.jsonl"
    assert main(["prepare", "csv", str(table), "--out", str(out), "--dev-speakers", "b"]) == 0
    assert "2 clips; 6 audio files" in capsys.readouterr().out
    assert [(c.id, c.split) for c in read_manifest(out).clips] == [
        ("good", "train"),
        ("better", "dev"),
    ]
    assert main(["check", str(out)]) == 0
    assert "missing         0  none" in capsys.readouterr().out
    assert main(["stats", str(out)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        ["clips", "speakers", "happy", "sad"],
        ["mine", "dev", "1", "1", "1", "0"],
        ["mine", "train", "1", "1", "0", "1"],
    ]
    (planted.root / "good.wav").unlink()
    assert main(["check", str(out)]) == 1
    assert "1 of 2 audio files" in capsys.readouterr().err
    assert main(["check", str(out), "--max-missing", "0.5"]) == 0


def test_prepare_by_list_and_a_list_by_class(
    planted: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    table = planted.root / "mine.csv"
    rows = [f"{k}{i}.wav,{k},dev" for k in ("sad", "fear") for i in range(3)]
    table.write_text("path,label,split\n" + "\n".join(rows) + "\n")
    out, names = planted.root / "m.jsonl", planted.root / "names.json"
    names.write_text(json.dumps({"path": ["/far/away/fear2.wav", "sad0.wav"]}))
    assert main(["prepare", "csv", str(table), "--out", str(out), "--list", str(names)]) == 0
    assert [c.id for c in read_manifest(out).clips] == ["fear2", "sad0"]
    assert main(["prepare", "csv", str(table), "--out", str(out)]) == 0
    drawn = planted.root / "list.txt"
    command = ["validation", str(out), "--out", str(drawn)]
    assert main([*command, "--per-class", "2"]) == 0
    few = named(read_manifest(out).clips, read_names(drawn))
    assert sorted(c.label or "" for c in few) == ["fear"] * 2 + ["sad"] * 2
    assert few == balanced(read_manifest(out).clips, 2, 0)  # as data.balanced draws
    assert main([*command, "--per-class", "0", "--sets", str(out.parent / "sets")]) == 0
    whole = read_manifest(out.parent / "sets" / "validation.jsonl")
    assert whole.clips == read_manifest(out).clips
    capsys.readouterr()
    prepare = ["prepare", "csv", str(table), "--out", str(out)]
    for wrong, message in (
        ([*command, "--per-class", "-1"], "ask for at least 1"),
        ([*command, "--per-class", "9"], "fewer than 9 clips of fear (3), sad (3); ask for 3 a"),
        ([*command, "--per-class", "1", "--split", "test1"], "no clip is in it; known: dev"),
        ([*prepare, "--out", "/proc/none/m.jsonl"], "/proc/none"),
        ([*prepare, "--dev-speakers", "z"], "unknown in this corpus: z"),
    ):
        assert main(wrong) == 1
        said = capsys.readouterr().err
        assert said.startswith("abhinaya data: ")
        assert message in said
        assert said.count("\n") == 1


def test_separators_of_lines_and_odd_names_of_files_survive(tmp_path: Path) -> None:
    """A transcript from elsewhere may hold a line separator, a name of a file any byte."""
    odd = "".join(HOSTILE.values())
    clips = tuple(
        Clip(id=f"{number}", corpus="c", path=f"b\udcff{number}.wav", transcript=f"a{text}\u2028b")
        for number, text in enumerate((odd.replace("\ud800", "").replace("\udfff", ""), "x"))
    )
    write_manifest(tmp_path / "m.jsonl", Manifest(tmp_path, clips))
    assert read_manifest(tmp_path / "m.jsonl").clips == clips
    table = tmp_path / "x.csv"
    table.write_text('path,transcript\na.wav,"one\u2028two\x85three"\n', encoding="utf-8")
    assert [row["transcript"] for row in rows_of(table, "")] == ["one\u2028two\x85three"]
