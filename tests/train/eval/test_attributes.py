"""Arousal, valence and dominance in `abhinaya eval`: files by hand, and a checkpoint."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from trainer_fakes import logged, shrunk, tones, write_wav

from abhinaya.models.labels import ATTRIBUTES
from abhinaya.models.registry import load
from abhinaya.train.cli import main as train
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.manifest import Manifest, read_manifest, write_manifest
from abhinaya.train.errors import DataError
from abhinaya.train.eval.attributes import Rater, attribute_rows, rated, rater
from abhinaya.train.eval.cli import main
from abhinaya.train.eval.models import Named
from abhinaya.train.eval.predict import ask, predict
from abhinaya.train.eval.predictions import read_predictions
from abhinaya.train.loop.checkpoint_card import described


def clips(n: int = 20, labelled: bool = False) -> tuple[Clip, ...]:
    """Clips whose arousal goes up, valence down, dominance to and fro; of four speakers."""
    return tuple(
        Clip(
            id=f"c{i}",
            corpus="x",
            speaker=f"s{i % 4}",
            votes={("sad", "happy")[i % 2]: 1.0} if labelled else {},
            path=f"c{i}.wav",
            split="dev",
            attributes={
                "arousal": i / n,
                "valence": 1 - i / n,
                "dominance": (0.3, 0.7, 0.5)[i % 3],
            },
        )
        for i in range(n)
    )


def table(rows: Sequence[Clip], shift: float = 0.0, header: str = "id", scale: bool = False) -> str:
    """What a system writes that is wrong by `shift` in arousal; `scale`: from 1 to 7."""
    lines = [",".join([header, *(("EmoAct", "EmoVal", "EmoDom") if scale else ATTRIBUTES)])]
    for clip in rows:
        said = [clip.attributes[a] + (shift if a == "arousal" else 0.0) for a in ATTRIBUTES]
        lines.append(",".join([clip.id, *(str(1 + 6 * v if scale else v) for v in said)]))
    return "\n".join(lines) + "\n"


def shifted(truth: np.ndarray, shift: float) -> float:
    """CCC of a series and itself moved: the correlation is 1, and only the means differ."""
    return 2 * truth.var() / (2 * truth.var() + shift**2)


# --- figures --------------------------------------------------------------------------------------


def test_what_is_right_but_for_a_shift_has_the_ccc_of_the_formula(tmp_path: Path) -> None:
    of = clips()
    (tmp_path / "p.csv").write_text(table(of[:-1], 0.05))
    on = rated(of, resamples=200)
    found = read_predictions(tmp_path / "p.csv", "p")["p"]
    (row,) = attribute_rows([rater("p", found, on.clips)], on)
    expected = shifted(on.truth[:-1, 0], 0.05)
    assert row["each"]["arousal"].value == pytest.approx(expected)
    assert row["each"]["valence"].value == pytest.approx(1.0)
    assert row["mean"].value == pytest.approx((expected + 2) / 3)
    assert row["each"]["arousal"].low < expected < row["each"]["arousal"].high < 1.0
    assert row["each"]["dominance"].low == pytest.approx(1.0)
    assert row["answered"] == 19  # one clip was not rated: it is left out, and counted
    assert row["gain"] is None


def test_two_systems_are_compared_on_the_clips_that_both_answer() -> None:
    on = rated(clips(), resamples=200)
    worse = on.truth + np.array([0.2, 0.0, 0.0])
    half = worse.copy()
    half[:10] = np.nan
    first, second, third = attribute_rows(
        [Rater("worse", worse), Rater("right", on.truth.copy()), Rater("half", half)], on
    )
    assert first["gain"] is None
    assert second["gain"] is not None
    gain = second["gain"]["comparison"].difference
    assert gain.value == pytest.approx((1 - shifted(on.truth[:, 0], 0.2)) / 3)
    assert gain.low > 0
    assert second["gain"]["comparison"].p == pytest.approx(2 / 201)
    assert third["gain"] is not None
    assert (third["answered"], third["gain"]["clips"]) == (10, 10)
    assert third["gain"]["comparison"].difference.value == 0.0


# --- the command ----------------------------------------------------------------------------------


def test_files_of_attributes_alone_are_printed_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = (*clips(), Clip("unrated", "x", path="u.wav", split="dev"))
    write_manifest(tmp_path / "m.jsonl", Manifest(tmp_path, of))
    for name, shift in (("A", 0.3), ("B", 0.0)):
        (tmp_path / f"{name}.csv").write_text(table(of[:-1], shift))
    files = [str(tmp_path / f"{name}.csv") for name in "AB"]
    out = ["--json", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")]
    assert main([str(tmp_path / "m.jsonl"), *files, "--resamples", "50", *out]) == 0
    said = capsys.readouterr().out
    assert "20 clips with arousal, valence and dominance; 1 without are left out" in said
    lines = said.partition("Table 6. Attributes\n")[2].splitlines()
    assert lines[0].split()[:3] == ["system", "mean", "CCC"]
    assert "1.000 [1.000, 1.000]" in lines[2]
    assert "20/20" in lines[2]
    assert "Table 1" not in said
    report = json.loads((tmp_path / "r.json").read_text())
    systems = report["attributes"]["systems"]
    assert [s["name"] for s in systems] == ["A", "B", "mean of all"]
    assert systems[1]["gain"]["comparison"]["difference"]["value"] == pytest.approx(
        1 - systems[0]["mean"]["value"]
    )
    page = (tmp_path / "r.html").read_text()
    assert "Table 6" in page
    assert page.count("<svg") == 3
    for part in page.split("<svg")[1:]:
        ET.fromstring("<svg" + part.split("</svg>")[0] + "</svg>")
    assert 'width="-' not in page  # a negative CCC has no bar


def test_one_file_may_say_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of = clips(labelled=True)
    write_manifest(tmp_path / "m.jsonl", Manifest(tmp_path, of))
    rows = table(of).splitlines()
    both = [f"{rows[0]},label", *(f"{r},{c.label}" for r, c in zip(rows[1:], of, strict=True))]
    (tmp_path / "A.csv").write_text("\n".join(both) + "\n")
    assert main([str(tmp_path / "m.jsonl"), str(tmp_path / "A.csv"), "--resamples", "20"]) == 0
    said = capsys.readouterr().out
    for part in ("Table 1. Systems", "Table 3. Labels", "Table 6. Attributes"):
        assert part in said


def test_events_of_the_monitor_rate_by_each_voter_and_by_the_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A clip of two segments: A rates both, of 1 s and 3 s; B gives only labels."""
    of = clips(labelled=True)
    write_manifest(tmp_path / "m.jsonl", Manifest(tmp_path, of))
    lines = []
    for clip, (segment, start_s) in product(of, enumerate((0.0, 1.0))):
        up = {a: 1 + 6 * clip.attributes[a] + (0.3, -0.1)[segment] * 0.1 for a in ATTRIBUTES}
        rated = {a: min(7.0, max(1.0, value)) for a, value in up.items()}
        empty = {"probabilities": None, "model": "m", "version": "1"}
        votes = [{"voter": "A", "label": "", "attributes": rated}, {"voter": "B", "label": "sad"}]
        event = {"type": "verdict", "stream": clip.id, "segment": segment, "revision": 0}
        event |= {"start_s": start_s, "end_s": 1.0 + 3 * segment, "attributes": rated}
        lines.append(event | {"label": "sad", "votes": [vote | empty for vote in votes]})
    (tmp_path / "run.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main([str(tmp_path / "m.jsonl"), str(tmp_path / "run.jsonl"), "--resamples", "20"]) == 0
    said = capsys.readouterr().out
    rows = said.partition("Table 6. Attributes\n")[2].splitlines()[1:3]
    assert sorted(row.split()[0] for row in rows) == ["A", "verdict"]
    assert all("1.000" in row for row in rows), "both segments together are right"
    assert "B " in said.partition("Table 1. Systems\n")[2].partition("\n\n")[0]
    assert "A " not in said.partition("Table 1. Systems\n")[2].partition("\n\n")[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,arousal,valence,dominance\nc0,x,0,0\n", "p.csv:2: arousal is 'x', not a number"),
        ("id,arousal,valence,dominance\nc0,0,3.5,0\n", "p.csv:2: valence is 3.5; its scale is 0"),
        ("id,EmoAct,EmoVal,EmoDom\nc0,-3,1,1\n", "p.csv:2: EmoAct is -3; its scale is 1 to 7"),
        ("id,arousal,valence,dominance\nc0,0,,0\n", "p.csv:2: valence is '', not a number"),
        ("id,arousal,valence,dominance\nc0,nan,0,0\n", "p.csv:2: arousal is nan; its scale"),
        ("id,arousal,valence,dominance\nc0,0,0,0\nc0,0,0,0\n", "p.csv:3: 'c0' is answered twice"),
        ("name,arousal,valence,dominance\nc0,0,0,0\n", "needs a column FileName"),
        ("id,arousal,valence,dominance\nz,0,0,0\n", "predictions of p: fewer than 2 fit a clip"),
    ],
)
def test_broken_ratings_are_one_line(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_manifest(tmp_path / "m.jsonl", Manifest(tmp_path, clips()))
    (tmp_path / "p.csv").write_text(content)
    assert main([str(tmp_path / "m.jsonl"), str(tmp_path / "p.csv")]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


# --- a checkpoint ---------------------------------------------------------------------------------


def test_a_checkpoint_of_attributes_is_evaluated_as_it_was_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, out = tones(tmp_path / "tones"), tmp_path / "run"
    settings = [word for s in shrunk("attributes", tmp_path) for word in ("--set", s)]
    assert train(["attributes", "--data", str(manifest), "--out", str(out), *settings]) == 0
    assert f"abhinaya eval MANIFEST --checkpoint NAME={out / 'best'}" in capsys.readouterr().out
    options = ["--checkpoint", f"A={out / 'best'}", "--split", "dev", "--resamples", "20"]
    more = ["--write", str(tmp_path / "w"), "--json", str(tmp_path / "r.json")]
    assert main([str(manifest), *options, *more]) == 0
    said = capsys.readouterr()
    assert "A.csv: 16 of 16 clips answered" in said.err
    assert "Table 6. Attributes" in said.out
    (judged,) = logged(out, "validation")
    (row,) = json.loads((tmp_path / "r.json").read_text())["attributes"]["systems"]
    for name in ATTRIBUTES:
        assert row["each"][name]["value"] == pytest.approx(judged[f"ccc_{name}"], abs=1e-4)

    best = described(out / "best")
    model = load(best.model, best.options)
    whole = read_manifest(manifest)
    write_wav(whole.root / "long.wav", np.sin(np.arange(200_000) / 7) * 0.1)
    write_wav(whole.root / "brief.wav", np.zeros(100))
    odd = tuple(Clip(n, "x", path=p) for n, p in (("l", "long.wav"), ("b", "brief.wav"), ("n", "")))
    one, path = Named("odd", best.model, best.options), tmp_path / "odd.csv"
    gone = predict(one, model, Manifest(whole.root, odd), path, 8)
    assert sum(gone.values()) == 2
    assert gone["the clip has no audio"] == 1
    assert set(read_predictions(path, "odd")["odd"].ballots) == {"l"}
    with pytest.raises(DataError, match="no clip has what wavlm needs: audio"):
        list(ask(model, Manifest(whole.root, odd[2:])))
