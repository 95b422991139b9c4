from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hostile_text import HOSTILE, hidden
from places import GOLDEN

from abhinaya.models.base import Ballot
from abhinaya.models.labels import LABELS
from abhinaya.models.vote.ensemble import Rule
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.manifest import Manifest, write_manifest
from abhinaya.train.errors import DataError
from abhinaya.train.eval.cli import main
from abhinaya.train.eval.predictions import Predictions, System, join, read_predictions
from abhinaya.train.eval.tables import (
    class_rows,
    combination_rows,
    combine,
    confusion_rows,
    model_row,
    scored,
)

VOTING = GOLDEN / "voting.json"
LETTERS = "ACDFHNSU"


def clips(labels: str) -> list[Clip]:
    return [
        Clip(f"c{i}", "x", f"s{i % 3}", {LABELS[LETTERS.index(c)]: 1.0}, f"a/c{i}.wav", "dev")
        for i, c in enumerate(labels)
    ]


def system(name: str, labels: str) -> System:
    return System(name, np.array([LETTERS.find(c) for c in labels], np.int64), None)


def test_one_system_scored_by_hand() -> None:
    on = scored(clips("AAAHHS"))
    row = model_row(system("S1", "AAHHU-"), on)  # angry .8, happy .5, sad 0
    assert row["macro_f1"].value == pytest.approx(1.3 / 3)
    assert row["recall"] == pytest.approx((2 / 3 + 1 / 2) / 3)
    assert row["accuracy"] == pytest.approx(0.5)
    assert (row["answered"], row["calibration_error"]) == (5, None)
    assert row["macro_f1"].low <= row["macro_f1"].value <= row["macro_f1"].high
    of = class_rows(system("S1", "AAHHU-"), on)
    assert {label: (s.n, s.f1) for label, s in of.items()} == {
        "angry": (3, pytest.approx(0.8)),
        "happy": (2, 0.5),
        "sad": (1, 0.0),
    }
    table = np.array(confusion_rows(system("S1", "AAHHU-"), on))
    assert table.shape == (3, 9)
    assert table[0].tolist() == [2, 0, 0, 0, 1, 0, 0, 0, 0]
    assert table[2, 8] == 1


def test_clips_without_agreement_are_not_scored() -> None:
    torn = Clip("t", "x", votes={"sad": 1, "fear": 1})
    assert len(scored([*clips("AH"), torn]).clips) == 2
    with pytest.raises(DataError, match="none has a consensus"):
        scored([torn])
    with pytest.raises(DataError, match="1 clips of one speaker"):
        scored(clips("A"), by_speaker=True)
    with pytest.raises(DataError, match="1 of 3 clips name no speaker"):
        scored([*clips("AH"), Clip("u", "x", votes={"sad": 1})], by_speaker=True)


def test_all_combinations_with_their_tie_break() -> None:
    on = scored(clips("AHSN"))
    systems = [system("S1", "AHNN"), system("S2", "HHSA"), system("T2", "AASN")]
    rows = {row["voters"]: row for row in combination_rows(systems, on, Rule())}
    assert set(rows) == {("S2", "S1", "T2"), ("S2", "S1"), ("S2", "T2"), ("S1", "T2")}
    # the three agree in pairs on A H S N: all right, no tie
    assert rows["S2", "S1", "T2"]["macro_f1"].value == 1.0
    assert rows["S2", "S1", "T2"]["ties"] == 0
    assert rows["S2", "S1", "T2"]["gain"].difference.value > 0
    # two that differ are a tie, and S2 decides: its own labels stand
    two = rows["S2", "S1"]
    assert (two["tie_breaker"], two["ties"]) == ("S2", 3)
    assert two["macro_f1"].value == model_row(systems[1], on)["macro_f1"].value


def test_a_missing_voter_leaves_the_vote_to_the_others() -> None:
    guess, ties = combine([system("S2", "--A"), system("T2", "-HH")], Rule())
    assert guess.tolist() == [-1, LABELS.index("happy"), LABELS.index("angry")]
    assert ties == 1


def test_votes_of_the_golden_file_are_decided_as_it_says() -> None:
    if not VOTING.is_file():
        pytest.skip(f"{VOTING} is not here: golden values come with ../shared")
    golden = json.loads(VOTING.read_text())
    cases = golden["explicit"]
    key = {"tiebreaker_label", "tiebreaker_within_tied"}
    assert len(cases) == 41
    for case in cases:
        votes, priority = case["votes"], tuple(case.get("priority", golden.get("priority", ())))
        systems = [system(v, x or "-") for v, x in votes.items()]
        for policy in key:
            rule = Rule(tie_policy=policy, **({"priority": priority} if priority else {}))  # type: ignore[arg-type]
            guess, _ = combine(systems, rule)
            wanted = case[policy]
            assert guess[0] == (LETTERS.index(wanted) if wanted else -1), case


def test_many_voters_are_combined_all_and_all_but_one() -> None:
    on = scored(clips("AH"), resamples=2)
    voters = [system(f"V{i:02}", "AH") for i in range(14)]
    rows = [row["voters"] for row in combination_rows(voters, on, Rule())]
    assert [len(names) for names in rows] == [14] + [13] * 14


# --- predictions ----------------------------------------------------------------------------------


def test_csv_by_letter_name_and_probabilities(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("FileName,EmoClass\nc0.wav,U\nc1.wav,Anger\nc2.wav,\n")
    (found,) = read_predictions(tmp_path / "a.csv", "S1").values()
    assert join("S1", found, clips("AAA")).guess.tolist() == [7, 0, -1]
    values = ["0.1"] * 6 + ["0.3", "0.1"]
    (tmp_path / "p.csv").write_text(f"id,{','.join(LABELS)}\nc1,{','.join(values)}\n")
    (found,) = read_predictions(tmp_path / "p.csv", "S1").values()
    joined = join("S1", found, clips("AA"))
    assert joined.guess.tolist() == [-1, 6]
    assert joined.probabilities is not None
    assert joined.probabilities.sum(axis=1).tolist() == pytest.approx([0.0, 1.0])


def test_a_file_name_that_two_clips_share_joins_neither() -> None:
    two = [Clip("a/x", "c", votes={"sad": 1}, path="a/x.wav"), Clip("b/x", "c", path="b/x.wav")]
    with pytest.raises(DataError, match="none fits a clip"):
        join("S1", Predictions({"x.wav": Ballot("sad")}), two)
    assert join("S1", Predictions({"b/x.wav": Ballot("sad")}), two).guess.tolist() == [-1, 6]
    assert join("S1", Predictions({"/else/x.wav": Ballot("sad")}), two[:1]).guess.tolist() == [6]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("FileName,EmoClass\nc0.wav,glee\n", r"p.csv:2: unknown label 'glee'"),
        ("FileName,EmoClass\nc0.wav,O\n", r"p.csv:2: predicts 'O'; only the eight"),
        ("FileName,EmoClass\nc0.wav,A\nc0.wav,H\n", r"p.csv:3: 'c0.wav' is answered twice"),
        ("FileName,mood\nc0.wav,A\n", r"needs a column .* it has FileName, mood"),
        ("", "it has no rows"),
        (f"id,{','.join(LABELS)}\nc0,{','.join(['1'] * 8)}\n", "sum to 8.0000, not to 1"),
        (f"id,label,{','.join(LABELS[2:])}\nc0,sad,0,0,0,0,1,0\n", "not of angry, contempt"),
        (
            f"id,{','.join(LABELS)}\nc0,{','.join(['x'] * 8)}\n",
            "p.csv:2: a probability is not a number",
        ),
    ],
)
def test_broken_predictions_name_line_and_remedy(
    content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "p.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        read_predictions(tmp_path / "p.csv", "S1")


def event(stream: str, segment: int, label: str, seconds: float, **more: object) -> str:
    p = {name: 0.65 if name == label else 0.05 for name in LABELS}
    vote = {"voter": "S1", "label": label, "probabilities": p}
    words = {"voter": "T1", "label": "sad", "probabilities": None}
    return json.dumps(
        {
            "schema": "abhinaya.event/1", "type": "verdict", "stream": stream, "segment": segment,
            "start_s": 0.0, "end_s": seconds, "label": label, "revision": 0, "final": True,
            "votes": [vote, words], **more,
        }
    )  # fmt: skip


def test_the_monitors_lines_give_its_voters_and_its_verdict(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    lines = [
        '{"type": "stream_started", "stream": "c0"}',
        event("c0", 0, "happy", 1.0),
        event("c0", 1, "angry", 3.0),
        event("c1", 0, "sad", 9.0, final=False),
        event("c1", 0, "fear", 2.0),
        event("c1", 0, "happy", 2.0, revision=1),
        event("c2", 0, "unknown", 2.0, votes=[]),
    ]
    path.write_text("\n".join(lines) + "\n")
    found = read_predictions(path, "x")
    assert set(found) == {"S1", "T1", "verdict"}
    labels = {name: {c: b.label for c, b in of.ballots.items()} for name, of in found.items()}
    assert labels["verdict"] == {"c0": "angry", "c1": "happy"}  # 3 s against 1 s; the last revision
    assert labels["T1"] == {"c0": "sad", "c1": "sad"}
    whole = found["S1"].ballots["c0"].probabilities
    assert whole is not None
    assert whole[LABELS.index("angry")] == pytest.approx(0.75 * 0.65 + 0.25 * 0.05)
    assert sum(whole) == pytest.approx(1.0)
    path.write_text('{"type": "verdict"}\n')
    with pytest.raises(DataError, match=r"out.jsonl:1: is not an event .*docs/events.md"):
        read_predictions(path, "x")
    voteless = event("c0", 0, "sad", 1.0, votes=[{"voter": "S1"}])
    for broken in ('{"type": "verdict", "revision": 0}', '"verdict"', "{", voteless):
        path.write_text(broken + "\n")
        with pytest.raises(DataError, match=r"out.jsonl:1: is not an event"):
            read_predictions(path, "x")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot be read as text"):
        read_predictions(path, "x")
    path.write_text('{"type": "gap"}\n')
    with pytest.raises(DataError, match="holds no verdict"):
        read_predictions(path, "x")


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    write_manifest(tmp_path / "m.jsonl", Manifest(tmp_path, tuple(clips("AHSNAHSN"))))
    for name, labels in (("S1", "AHNNAHNN"), ("S2", "HHSAAHSN"), ("T2", "AASNAASN")):
        rows = [f"c{i}.wav,{c}" for i, c in enumerate(labels)]
        (tmp_path / f"{name}.csv").write_text("FileName,EmoClass\n" + "\n".join(rows) + "\n")
    return tmp_path


def test_the_command_prints_tables_and_writes_json_and_html(
    planted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(planted / f"{name}.csv") for name in ("S1", "S2", "T2")]
    out = ["--json", str(planted / "r.json"), "--html", str(planted / "r.html")]
    assert main([str(planted / "m.jsonl"), *files, "--resamples", "50", *out]) == 0
    said = capsys.readouterr().out
    assert "8 clips of 3 speakers" in said
    for table in ("Table 1", "Table 3", "Table 4", "S2+S1+T2"):
        assert table in said
    report = json.loads((planted / "r.json").read_text())
    assert report["schema"] == "abhinaya.evaluation/1"
    best = report["combinations"][0]
    assert best["voters"] == ["S2", "S1", "T2"]
    assert best["macro_f1"]["value"] == 1.0
    page = (planted / "r.html").read_text()
    assert page.count("<svg") == 6
    for part in page.split("<svg")[1:]:
        ET.fromstring("<svg" + part.split("</svg>")[0] + "</svg>")
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


def test_a_name_cannot_put_markup_into_the_page(
    planted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = planted / "r.html"
    name = "<b>x</b>" + "".join(HOSTILE.values()).replace("=", "")
    given = f"{name}={planted / 'S1.csv'}"
    assert main([str(planted / "m.jsonl"), given, "--resamples", "5", "--html", str(page)]) == 0
    text = page.read_text()
    assert "<b>" not in text
    assert "<script" not in text
    assert "&lt;b&gt;" in text
    assert not hidden(text)
    assert not hidden(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--split", "test1"], "split 'test1': no clip is in it; known: dev"),
        (["--voters", "S1,S9"], "--voters: no predictions of S9; found: S1"),
        (["--resamples", "0"], "--resamples 0"),
        (["--json", "/nowhere/r.json"], "No such file or directory"),
    ],
)
def test_bad_options_are_one_line(
    more: list[str], message: str, planted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(planted / "m.jsonl"), str(planted / "S1.csv"), *more]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
