"""Whole systems from a made-up MSP-Podcast: killed and resumed, with the result of one run."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_msp import make_msp
from scripted_server import Say, completion, scripted
from tiny_encoders import save_encoder
from trainer_fakes import SMALL, shrunk

from abhinaya.bench.reproduce import cli, run
from abhinaya.bench.reproduce.plan import Step
from abhinaya.bench.reproduce.report import compared, figure_of
from abhinaya.models.labels import ATTRIBUTES, LABELS
from abhinaya.models.published.specs import NetworkSpec
from abhinaya.train.data.cli import main as data
from abhinaya.train.data.manifest import read_manifest, write_manifest
from abhinaya.train.errors import TrainingError
from abhinaya.train.recipes.system import FIGURES, load_system, systems

KINDS = ("modernbert", "deberta", "roberta", "hubert", "bert", "t5", "wavlm", "wav2vec2", "whisper")
"""Families of encoders; more special ones first: a HuBERT has `bert` in its name."""
LIMIT_S = 1_500.0
"""A run of many members, on a machine that does other things too."""
FIGURE_2 = "train/recipes/systems/abhinaya/figure-2.toml"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_msp(tmp_path_factory.mktemp("msp"), {"Train": 2, "Development": 10}, hidden=8)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """It says which emotion the transcript names."""

    def script(_: int, request: dict[str, Any]) -> Say:
        said = re.search(r"it is (\w+) now", request["messages"][-1]["content"])
        return Say(completion(said[1] if said else "neutral"))

    with scripted(script) as served:
        yield served.url


def tiny(system: str, folder: Path) -> list[str]:
    """Flags that make every recipe of a system tiny."""
    made = load_system(system)
    groups = (
        ("members", made.members),
        ("attributes.members", made.attributes.members),
        ("variants", made.variants),
    )
    flags = []
    for group, members in groups:
        for member in members:
            recipe = made.recipes.get(member.name)
            if recipe is None:
                continue
            if isinstance(recipe.options, NetworkSpec):
                pairs = [*SMALL, "stages=[]", "train.cap=9", "model.options.width=16"]
                for i, encoder in enumerate(recipe.options.members):
                    kind = next(kind for kind in KINDS if kind in encoder.name.lower())
                    place = save_encoder(kind, folder)
                    pairs.append(f"model.options.members.{i}.name={place}")
            else:
                pairs = shrunk(member.recipe, folder)
            flags += [w for pair in pairs for w in ("--set", f"{group}.{member.name}.{pair}")]
    return flags


def start(words: Sequence[str], said: Path) -> subprocess.Popen[bytes]:
    own = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    code = "import sys; from abhinaya.bench.reproduce.cli import main; sys.exit(main(sys.argv[1:]))"
    with said.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-c", code, *words], stdout=out, stderr=out, env={**os.environ, **own}
        )


def finish(words: Sequence[str], said: Path) -> None:
    code = start(words, said).wait(LIMIT_S)
    assert code == 0, said.read_text("utf-8")[-3_000:]


def results(work: Path) -> dict[str, Any]:
    """What may not depend on kills."""
    found: dict[str, Any] = {
        str(path.relative_to(work)): path.read_bytes()
        for name in ("predictions", "submission", "sets", "tables", "validation.txt")
        for path in [*(work / name).rglob("*"), work / name]
        if path.is_file()
    }
    report = json.loads((work / "report.json").read_bytes())
    return found | {"report": {k: v for k, v in report.items() if k != "seconds"}}


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.timeout(5_000)
@pytest.mark.parametrize("name", systems())
def test_a_system_killed_twice_ends_as_an_undisturbed_one(
    name: str, corpus: Path, server: str, tmp_path: Path
) -> None:
    flags = [*tiny(name, tmp_path / "models"), "--base-url", server, "--asr", "corpus"]
    flags += ["--set", "data.balanced=10", "--corpus", str(corpus)]
    if name == "abhinaya":  # a row of table 2, and of figure 2
        flags += ["--with", FIGURE_2, "--variants", "S1/WCE,DeepSeek-R1"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish([name, "--work", str(whole), *flags], tmp_path / "whole.txt")
    steps = len(json.loads((whole / "state.json").read_bytes()))
    rng = np.random.default_rng(sum(map(ord, name)))
    words, said = [name, "--work", str(killed), *flags], tmp_path / "killed.txt"
    for part in (1, 2):
        process, until = start(words, said), time.monotonic() + LIMIT_S
        wanted = int(rng.integers(1, steps // 2 + 1)) * part
        while not (killed / "state.json").exists() or done(killed) < min(wanted, steps - 1):
            assert process.poll() is None, said.read_text("utf-8")[-3_000:]
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(float(rng.uniform(0, 2)))
        process.send_signal(signal.SIGKILL)
        process.wait()
    finish(words, said)
    assert results(killed) == results(whole)
    assert (whole / "report.html").read_text().startswith("<!doctype html>")


def done(work: Path) -> int:
    return sum(step["done"] for step in json.loads((work / "state.json").read_bytes()).values())


# --- without networks -----------------------------------------------------------------------------


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Steps of networks write a file instead; which of them ran."""
    names: list[str] = []

    def perform(step: Step) -> None:
        names.append(step.name)
        for path in step.writes:
            place = path / "weights" if path.name == "best" else path
            place.parent.mkdir(parents=True, exist_ok=True)
            if step.name.startswith("predict"):
                clips = [
                    json.loads(line)["id"]
                    for line in Path(step.command[1]).read_text().splitlines()[1:]
                ]
                rows = [f"{clip},{LABELS[k % 8]},3,4,5,{k}" for k, clip in enumerate(clips)]
                place.write_text("\n".join(["id,label,EmoAct,EmoVal,EmoDom,n", *rows]) + "\n")
            else:
                place.write_text(step.settings)

    monkeypatch.setattr(run, "_apart", perform)
    monkeypatch.setattr(cli, "missing", lambda *_: ())
    return names


def reproduce(corpus: Path, work: Path, *more: str) -> int:
    words = ["baseline", "--corpus", str(corpus), "--work", str(work), "--asr", "corpus", *more]
    return cli.main([*words, "--set", "data.balanced=10"])


def test_a_step_runs_again_only_if_its_inputs_have_changed(
    corpus: Path, tmp_path: Path, ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    copy, work = shutil.copytree(corpus, tmp_path / "msp"), tmp_path / "work"
    assert reproduce(copy, work) == 0
    assert len(ran) == 6
    for file in ("labels", "attributes"):
        assert (work / "submission" / f"{file}.csv").read_text().count("\n") == 9
    capsys.readouterr()
    ran.clear()
    assert reproduce(copy, work) == 0
    assert ran == []
    assert capsys.readouterr().out == f"report: {work / 'report.html'}\n"
    assert reproduce(copy, work, "--set", "members.labels.train.epochs=3") == 0
    assert ran == ["train labels", "predict labels validation", "predict labels test3"]
    assert "vote validation" not in capsys.readouterr().out  # the answers are the same
    next((copy / "Transcripts").iterdir()).write_text("another sentence")
    ran.clear()
    assert reproduce(copy, work, "--only", "prepare,check,lists,train") == 0
    assert ran == ["train labels", "train dimensions"]  # of the recipe, and of new data


def test_what_stops_the_road_is_named(
    corpus: Path, tmp_path: Path, ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "work"
    words = ["baseline", "--corpus", str(corpus), "--work", str(work), "--asr", "corpus"]
    assert cli.main([*words, "--set", "data.balanced=11"]) == 1
    assert "fewer than 11 clips of angry (10)" in capsys.readouterr().err
    with run.alone(work):
        assert reproduce(corpus, work) == 1
    assert "another abhinaya reproduce works in it" in capsys.readouterr().err
    manifest = read_manifest(work / "manifest.jsonl")
    kept = [clip for clip in manifest.clips if (clip.split, clip.label) != ("dev", "fear")]
    write_manifest(work / "lacks.jsonl", replace(manifest, clips=tuple(kept)))
    draw = ["validation", str(work / "lacks.jsonl"), "--per-class", "10"]
    assert data([*draw, "--out", str(work / "drawn.txt")]) == 1
    assert "dev has no clip of fear, which train has" in capsys.readouterr().err
    for more, message in (
        (["--only", "trian"], "step 'trian': unknown; known: prepare, check, lists, train labels"),
        (["--variants", "S9"], "--variants S9: unknown; known: none"),
        (["--sets", "test9"], "split 'test9': no clip is in it"),
        (["--batch", "0"], "out of range: give --max-missing"),
        (["--max-missing", "nan"], "out of range: give --max-missing"),
        (["--with", "/none.toml"], "--with: /none.toml cannot be read"),
    ):
        assert reproduce(corpus, work, *more) in (1, 2)
        assert message in capsys.readouterr().err
    (work / "state.json").write_text("{")
    assert reproduce(corpus, work) == 1
    assert "state.json: is damaged" in capsys.readouterr().err


def test_a_dry_run_says_what_it_takes_and_what_is_missing(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "abhinaya",
        "--corpus",
        str(corpus),
        "--work",
        str(tmp_path / "w"),
        "--variants",
        "none",
    ]
    assert cli.main([*words, "--dry-run", "--set", "members.S1.model.options.encoder=/none"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"to do  train S2 +about \d+\.\d h, \d+ GB\n +abhinaya train s2 --data", said)
    for text in (
        "missing: S1: encoder = '/none' does not exist",
        "missing: S2: beats = 'BEATs_iter3",
        "missing: T1: needs a server with an OpenAI-compatible API; give --base-url URL",
        "meta-llama/Llama-3.1-8B: from the Hub; Llama 3.1 Community License, needs an account",
        "lmsys/vicuna-13b-v1.1: from the Hub; LLaMA-1 research licence, not for commercial use",
    ):
        assert text in said
    assert not (tmp_path / "w").exists()
    assert cli.main([*words, "--base-url", "http://127.0.0.1:9/v1"]) == 1
    error = capsys.readouterr().err
    assert "T1: no server answers at http://127.0.0.1:9/v1" in error
    assert re.search(r"missing: S2: .*\nabhinaya reproduce: \d+ of what", error, re.S)


@pytest.mark.slow
def test_the_child_of_a_step_hands_its_error_on(tmp_path: Path) -> None:
    step = Step("check", ("data", "check", str(tmp_path / "none.jsonl")))
    with pytest.raises(TrainingError, match=r"step check: abhinaya data has failed \(exit code 1"):
        run._apart(step)


def test_every_published_figure_has_a_place_in_the_tables() -> None:
    interval = {"value": 0.4, "low": 0.3, "high": 0.5}
    model = {"macro_f1": interval, "recall": 0.1, "weighted_f1": 0.2, "accuracy": 0.3}
    report = {
        "models": [{"name": "S1", **model}],
        "classes": {"S1": {label: {"f1": 0.5} for label in LABELS}},
        "combinations": [{"voters": ["T2", "S1"], "macro_f1": {**interval, "value": 0.6}}],
        "attributes": {"systems": [{"name": "vote", "mean": interval, "each": {
            "arousal": interval, "valence": interval, "dominance": {**interval, "value": 0.7}}}]},
    }  # fmt: skip
    found = {
        name: figure_of(report, "attributes" if "CCC" in name else "S1", name) for name in FIGURES
    }
    assert {name for name, figure in found.items() if figure is None} == set()
    assert [found[n]["value"] for n in ("UAR", "F1 fear", "CCC dominance")] == [0.1, 0.5, 0.7]
    joint = figure_of(report, "S1+T2", "macro-F1")
    assert joint is not None
    assert joint["value"] == 0.6
    assert figure_of(report, "S2", "macro-F1") is figure_of({}, "attributes", "mean CCC") is None


def test_what_was_fitted_on_the_validation_list_is_not_compared_on_it(tmp_path: Path) -> None:
    values = {"value": 0.9, "low": 0.8, "high": 1.0}
    rated = {"name": "attributes", "mean": values, "each": dict.fromkeys(ATTRIBUTES, values)}
    tables = {"validation": {"attributes": {"systems": [rated]}}}
    (tmp_path / "fusion.json").write_text('{"metrics": {"ccc_ridge": 0.3}}')
    rows = compared(load_system("emojudge"), tables, tmp_path)
    found = {row["what"]: row for row in rows if row["row"] == "attributes"}
    folds, marked = found["validation mean CCC"], found["validation CCC valence"]
    assert (folds["lab"], folds["on"], folds["same"]) == (
        {"value": 0.3}, "validation, by folds", False,
    )  # fmt: skip
    assert (marked["lab"], marked["on"], marked["same"]) == (
        values, "validation, fitted on it", False,
    )  # fmt: skip
