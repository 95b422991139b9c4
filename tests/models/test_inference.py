"""The choices that all torch voters offer: that they change the speed and nothing else."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny_checkpoints
import torch

from abhinaya.models import inference
from abhinaya.models.base import Utterance
from abhinaya.models.errors import OptionsError
from abhinaya.models.inference import compile_if_asked, layers, moved, place
from abhinaya.models.registry import load

CPU = {"device": "cpu", "dtype": "float32"}


def test_places() -> None:
    assert place("cpu", "bfloat16").dtype == torch.bfloat16
    if not torch.cuda.is_available():
        assert place() == place("cpu", "float32")
        with pytest.raises(OptionsError, match="no GPU"):
            place("cuda")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "flesh"}, r"attention 'flesh': unknown; use auto, sdpa, eager"),
        ({"attention": "flash_attention_2"}, r"needs a GPU, in bfloat16 or float16; use auto"),
        ({"compile": "yes"}, "neither true nor false"),
        ({"dtype": "int8"}, "unknown"),
        ({"device": "gpu9"}, "unknown"),
    ],
)
def test_choices_that_cannot_be(options, message) -> None:
    with pytest.raises(OptionsError, match=message):
        place(**{"device": "cpu", **options})


def test_flash_attention_names_the_package_that_it_needs(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(inference.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(OptionsError, match="flash-attn is not installed"):
        place("cuda", "bfloat16", "flash_attention_2")
    monkeypatch.setattr(inference.importlib.util, "find_spec", lambda _: object())
    where = place("cuda", "bfloat16", "flash_attention_2")
    assert where.attention_of_transformers == "flash_attention_2"


def test_pinned_memory_is_for_a_gpu_alone(monkeypatch) -> None:
    pinned: list[torch.Tensor] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda t: (pinned.append(t), t)[1])
    row = torch.arange(3)
    assert moved(row, place("cpu", "float32")) is row
    assert not pinned
    # The copy to a GPU that is not there fails, but only after the pinning.
    gpu = inference.Place(torch.device("cuda"), torch.bfloat16)
    if not torch.cuda.is_available():
        with pytest.raises((RuntimeError, AssertionError)):
            moved(row, gpu)
        assert len(pinned) == 1


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, tuple[str, dict]]:
    """Each voter's name and options."""
    folder: Path = tmp_path_factory.mktemp("voters")
    llm = tiny_checkpoints.save_llm(folder / "llama")
    checkpoint, _ = tiny_checkpoints.save_llama_lora(llm, folder)
    salmonn = tiny_checkpoints.save_salmonn(folder)
    return {
        "S1": ("wavlm", {"checkpoint": str(tiny_checkpoints.save_wavlm(folder / "s1"))}),
        "T2": ("llama-lora", {"llm": str(llm), "checkpoint": str(checkpoint)}),
        "S2": ("salmonn-13b", salmonn.options("13b")),
        "ST1": ("salmonn-7b", salmonn.options("7b")),
    }


@pytest.fixture
def segments(speech) -> list[Utterance]:
    words = ("I won!", "no", "This is the worst of all things that could have happened.")
    sizes = (16_000, 9_999, 30_123)
    return [Utterance(speech(n, n), transcript=w) for n, w in zip(sizes, words, strict=True)]


def table(answers) -> np.ndarray:
    return np.array([answer.probabilities for answer in answers])


@pytest.mark.parametrize("voter", ["T2", "S2", "ST1"])
def test_attention_changes_nothing(voter, files, segments) -> None:
    name, options = files[voter]
    found = {
        way: load(name, {**options, **CPU, "attention": way}) for way in ("auto", "sdpa", "eager")
    }
    ways = {way: model._model.llm.config._attn_implementation for way, model in found.items()}
    assert (ways["sdpa"], ways["eager"]) == ("sdpa", "eager")
    votes = {way: table(model.vote(segments)) for way, model in found.items()}
    assert np.abs(votes["sdpa"] - votes["eager"]).max() < 1e-5
    assert np.array_equal(votes["auto"], votes["sdpa"]), "transformers chooses SDPA by itself"


def test_compiled_code_equals_plain_code(caplog) -> None:
    """By the real compiler, for batches of sizes that it has not met before."""
    stack = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False
    ).eval()
    assert layers(stack) == list(stack.layers)
    assert layers(stack.layers[0].linear1) == [stack.layers[0].linear1]
    rows = [torch.randn(b, t, 8) for b, t in ((1, 5), (2, 7), (3, 4))]
    with torch.inference_mode():
        expected = [stack(row) for row in rows]
        compile_if_asked(place("cpu", "float32", compile=True), stack)
        for row, plain in zip(rows, expected, strict=True):
            assert torch.allclose(stack(row), plain, atol=1e-5)
    assert not [r for r in caplog.records if r.name == inference.__name__], "it compiles"


@pytest.mark.slow
@pytest.mark.parametrize("voter", ["S1", "T2", "S2"])
def test_a_compiled_voter_votes_as_before(voter, files, segments, caplog, monkeypatch) -> None:
    """As far as torch reads its code: compiling all of it would take a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    name, options = files[voter]
    plain = load(name, {**options, **CPU})
    fast = load(name, {**options, **CPU, "compile": True})
    votes, singles = fast.vote(segments), [fast.vote([s])[0] for s in segments]
    assert not [r for r in caplog.records if r.name == inference.__name__], "it compiles"
    expected = table(plain.vote(segments))
    assert np.abs(table(votes) - expected).max() < 1e-5
    assert np.abs(table(singles) - expected).max() < 1e-5
    assert fast.card == plain.card


@pytest.mark.parametrize("voter", ["S1", "T2", "S2", "ST1"])
@pytest.mark.parametrize(("dtype", "near"), [("float32", 1e-4), ("bfloat16", 2e-3)])
def test_a_batch_equals_its_singles_in_either_precision(
    voter, dtype, near, files, segments
) -> None:
    """docs/models.md states these bounds."""
    name, options = files[voter]
    model = load(name, {**options, **CPU, "dtype": dtype})
    together = table(model.vote(segments))
    if voter in ("S2", "ST1"):
        model.encoders._known.clear()  # or the features of the batch would be remembered
    alone = table([model.vote([segment])[0] for segment in segments])
    assert np.abs(together - alone).max() < near


class Broken:
    """Stands for a compiler that fails when its code is first run."""

    def __init__(self, error: Exception) -> None:
        self.error, self.calls = error, 0

    def __call__(self, *_: object, **__: object) -> object:
        self.calls += 1
        raise self.error


def test_what_does_not_compile_runs_as_it_was_and_says_so_once(monkeypatch, caplog) -> None:
    broken = Broken(RuntimeError("Failed to find C compiler\nand a page of more"))
    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    layer, row = torch.nn.Linear(3, 2), torch.ones(1, 3)
    expected, names = layer(row), list(layer.state_dict())
    compile_if_asked(place("cpu", "float32"), layer)
    assert torch.equal(layer(row), expected)
    assert broken.calls == 0, "not asked for"
    compile_if_asked(place("cpu", "float32", compile=True), layer)
    for _ in range(3):
        assert torch.equal(layer(row), expected)
    assert broken.calls == 1
    (record,) = caplog.records
    text = record.getMessage()
    assert "Linear does not compile and runs as it is (RuntimeError: Failed to find C" in text
    assert "set compile = false" in text
    assert "a page of more" not in text
    assert list(layer.state_dict()) == names


def test_too_little_memory_is_not_taken_for_a_compilers_fault(monkeypatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda *_, **__: Broken(torch.OutOfMemoryError("full")))
    layer = torch.nn.Linear(3, 2)
    compile_if_asked(place("cpu", "float32", compile=True), layer)
    with pytest.raises(torch.OutOfMemoryError):
        layer(torch.ones(1, 3))
