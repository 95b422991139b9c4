from __future__ import annotations

import inspect
import json
import re

import pytest
import torch
from scripted_server import Say, completion, scripted
from tiny_checkpoints import save_wavlm

from abhinaya.models import hugging_face as pull
from abhinaya.models.catalogue import CATALOGUE
from abhinaya.models.checkpoint import read
from abhinaya.models.cli import main
from abhinaya.models.labels import ATTRIBUTES, LABELS
from abhinaya.models.published.salmonn_voter import salmonn_13b
from abhinaya.models.registry import MODELS, load
from abhinaya.train.cli import WEIGHTS
from abhinaya.train.tiny.cards import BACKGROUNDS


@pytest.fixture(autouse=True)
def _nothing_is_here(monkeypatch) -> None:
    monkeypatch.setattr(pull, "cached", lambda repo: None)


@pytest.mark.parametrize("name", [n for n, e in CATALOGUE.items() if e.packaged])
def test_a_packaged_model_has_a_card_that_agrees_with_the_catalogue(name) -> None:
    (beside,) = (p for p in WEIGHTS.glob(f"{name}.*") if p.suffix == ".json")
    told = json.loads(beside.read_text("utf-8"))
    assert told["model"] == name
    card = load(name).card
    if card.parameters is not None:  # an ONNX file does not say
        assert CATALOGUE[name].parameters == pytest.approx(card.parameters, rel=0.01)
    assert CATALOGUE[name].needs == tuple(sorted(card.needs))
    assert card.trial == tuple(told["trial"])
    assert told["version"] == card.version
    assert card.licence == BACKGROUNDS[name]["licence"]
    assert card.noncommercial == BACKGROUNDS[name]["noncommercial"]


def test_a_licence_that_forbids_commercial_use_is_told_before_anything_is_loaded(capsys) -> None:
    main(["show", "salmonn-13b"])
    assert "vicuna-13b-v1.1 (LLaMA-1 research licence, forbids comm" in capsys.readouterr().out
    factory = inspect.signature(salmonn_13b).parameters
    assert factory["noncommercial"].default is True, "and its card says so to --accept-..."
    assert not any(source.noncommercial for source in CATALOGUE["wavlm"].sources)


def test_list_has_a_line_for_each_model(capsys, monkeypatch) -> None:
    assert main(["list"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(MODELS)
    assert head.split() == ["NAME", "NEEDS", "PARAMETERS", "FILES", "LICENCE", "WHAT"]
    by_name = {line.split()[0]: line for line in lines}
    assert "here" in by_name["tiny-speech"]
    assert "0 of 1" in by_name["wavlm"]
    assert "audio+transcript" in by_name["salmonn-7b"]
    assert "+ yours" in by_name["salmonn-7b"]
    assert "on a server" in by_name["zero-shot"]
    monkeypatch.setattr(pull, "cached", lambda repo: repo)
    main(["list"])
    assert "here" in next(x for x in capsys.readouterr().out.splitlines() if x.startswith("wavlm"))


@pytest.mark.parametrize("name", MODELS)
def test_show_says_what_a_model_needs_and_takes(capsys, name) -> None:
    assert main(["show", name]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{name}: ")
    assert "\noptions\n" in out
    for source in CATALOGUE[name].sources:
        assert source.repo in out
    assert ("\nlicence " in out) == CATALOGUE[name].packaged


def test_show_prints_the_card_of_what_can_be_loaded_and_check_counts_and_votes(
    capsys, tmp_path
) -> None:
    folder = save_wavlm(tmp_path / "s1")
    assert main(["show", "wavlm", "--option", f"checkpoint={folder}", "--option", "licence=X"]) == 0
    out = capsys.readouterr().out
    for part in ("licence X\n", f"labels {', '.join(LABELS)}", "audio 16000 Hz", "parameters"):
        assert part in out
    stored = read(folder).tensors
    assert main(["check", "wavlm", "--option", f"checkpoint={folder}"]) == 0
    first, vote, *shares = capsys.readouterr().out.splitlines()
    parameters = sum(t.numel() for t in stored.values())
    assert f"{len(stored)} weights, {parameters:,} parameters, every key" in first
    assert vote.split()[1].rstrip(",") in LABELS
    assert " ms (first " in vote
    assert sum(float(line.split()[1]) for line in shares) == pytest.approx(1, abs=0.01)


def test_attributes_are_shown_without_labels_and_beside_them(capsys, tmp_path) -> None:
    for name, labels in (("alone", ()), ("both", LABELS)):
        folder = save_wavlm(tmp_path / name, (*labels, *ATTRIBUTES))
        option = ["--option", f"checkpoint={folder}"]
        assert main(["show", "wavlm", *option]) == 0
        out = capsys.readouterr().out
        assert "rates arousal, valence, dominance\n" in out
        assert ("\nlabels " in out) == bool(labels)
        assert main(["check", "wavlm", *option]) == 0
        _, answer, *shares = capsys.readouterr().out.splitlines()
        said = r"votes \w+" if labels else "gives no label"
        assert re.match(said + r", rates A \d\.\d V \d\.\d D \d\.\d, in ", answer)
        assert len(shares) == len(labels)


def test_check_asks_a_server(capsys) -> None:
    with scripted(lambda *_: Say(completion("sad"))) as server:
        options = ["--option", f"base_url={server.url}", "--option", "model=m"]
        assert main(["check", "zero-shot", *options]) == 0
        assert "votes sad" in capsys.readouterr().out
    assert main(["check", "zero-shot", *options, "--option", "attempts=1"]) == 6
    assert "abhinaya models: zero-shot: the server at" in capsys.readouterr().err


def test_convert(capsys, tmp_path) -> None:
    torch.save({"model": {"a": torch.ones(3)}}, tmp_path / "w.pth")
    assert main(["convert", str(tmp_path / "w.pth"), str(tmp_path / "w.safetensors")]) == 0
    assert "1 weights" in capsys.readouterr().out
    assert torch.equal(read(tmp_path / "w.safetensors").tensors["a"], torch.ones(3))


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["show", "wavml"], 2, "no model is called 'wavml'; did you mean 'wavlm'?"),
        (["check", "wavml"], 2, "no model is called"),
        (["pull", "wavml"], 2, "no model is called"),
        (["check", "wavlm"], 2, "the option 'checkpoint' is missing; give it"),
        (["check", "wavlm", "--option", "checkpoint"], 2, "is not KEY=VALUE"),
        (["check", "wavlm", "--option", "checkpoint=/none"], 6, "/none: it does not exist; check"),
        (["check", "wavlm", "--option", "checkpoint=<yours>"], 2, "still has the placeholder"),
        (["convert", "/none.pth", "/x.safetensors"], 6, "/none.pth: it does not exist"),
        (["convert", "/none.pth", "/x.pth"], 2, "does not end in .safetensors"),
        ([], 2, "required"),
        (["fetch"], 2, "unknown 'fetch'"),
        (["pull"], 2, "required"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(capsys, arguments, code, line) -> None:
    try:
        found = main(arguments)
    except SystemExit as left:  # wrong usage
        found = left.code
    err = capsys.readouterr().err
    assert found == code
    assert err.startswith("abhinaya models")
    assert line in err
    assert err.count("\n") == 1
