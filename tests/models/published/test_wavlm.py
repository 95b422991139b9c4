"""S1 against golden, and both layouts end to end."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_checkpoints import WAVLM as TINY
from transformers import WavLMConfig, WavLMModel

from abhinaya.models.base import Abstention, Utterance
from abhinaya.models.errors import (
    DamagedFileError,
    KeysError,
    LabelsError,
    MissingFileError,
    OptionsError,
)
from abhinaya.models.labels import LABELS, label_map
from abhinaya.models.published.voting_batch import valid
from abhinaya.models.published.wavlm import S1, WAVLM_LARGE, S1Config, WaveNorm, load_s1, save_s1
from abhinaya.models.registry import load

ITEMS = range(3)
CPU = {"device": "cpu", "dtype": "float32"}


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


# --- golden -----------------------------------------------------------------------------


@pytest.fixture
def golden_folder(golden, tmp_path):
    """Golden weights as a user would have them: a folder with config.json and the weights."""
    config = json.loads(golden("wavlm_tiny/config.json").read_text())

    def build(kind: str) -> Path:
        folder = tmp_path / kind
        folder.mkdir()
        shutil.copyfile(golden(f"wavlm_tiny/{kind}.safetensors"), folder / "model.safetensors")
        if kind == "cat_ser":
            fields = config["cat_ser"] | {"ssl_type": "encoder"}
            (folder / "encoder").mkdir()
            (folder / "encoder" / "config.json").write_text(json.dumps(config["wavlm"]))
        else:
            pool = kind.removeprefix("s1_")
            fields = {"wavlm": config["wavlm"], "pool": pool, "hidden": config["s1"]["hidden"]}
        (folder / "config.json").write_text(json.dumps(fields))
        return folder

    return build


@pytest.fixture
def waves(golden_tensors) -> list[np.ndarray]:
    inputs = golden_tensors("wavlm_tiny/inputs.safetensors")
    return [inputs[f"item{i}.wave"].numpy() for i in ITEMS]


@pytest.mark.parametrize("pool", ["asp", "attn_mean"])
def test_s1_golden_at_every_stage(pool, golden_folder, golden_tensors, waves, close) -> None:
    model = load_s1(str(golden_folder(f"s1_{pool}")))
    g = golden_tensors("wavlm_tiny/expected_s1.safetensors")
    for i in ITEMS:
        one, length = model.prepare(waves[i : i + 1])
        hidden = model.encode(one, length)
        close(hidden[0], g[f"item{i}.last_hidden_state"], 5e-5)
        close(model.head.pool(hidden)[0], g[f"{pool}.item{i}.pooled"], 5e-5)
        close(model(one, length)[0], g[f"{pool}.item{i}.logits"], 5e-5)
    batch, lengths = model.prepare(waves)
    assert torch.equal(lengths, g["lengths"])
    assert torch.equal(model.frames(lengths), g["num_frames"])
    hidden = model.encode(batch, lengths)
    close(hidden, g["batch.last_hidden_state"], 5e-5)
    pooled = model.head.pool(hidden, valid(model.frames(lengths), hidden.shape[1]))
    close(pooled, g[f"{pool}.batch.pooled"], 5e-5)
    close(model(batch, lengths), g[f"{pool}.batch.logits"], 5e-5)


def test_challenge_baseline_golden_at_every_stage(
    golden_folder, golden_tensors, waves, close
) -> None:
    model = load_s1(str(golden_folder("cat_ser")))
    g = golden_tensors("wavlm_tiny/expected_cat_ser.safetensors")
    batch, lengths = model.prepare(waves)
    close(batch[:, :64], g["batch.normalised_wave_head"], 5e-5)
    hidden = model.encode(batch, lengths)
    close(hidden, g["batch.last_hidden_state"], 5e-5)
    close(model(batch, lengths), g["batch.logits_true_length"], 5e-5)
    # The published code pools one or two frames of padding more.
    published = valid((lengths - 1) // 320 + 1, hidden.shape[1])
    close(model.head.pool(hidden, published), g["batch.pooled"], 5e-5)
    close(model.head(hidden, published), g["batch.logits"], 5e-5)
    for i in ITEMS:
        close(model(*model.prepare(waves[i : i + 1]))[0], g[f"item{i}.logits"], 5e-5)


def test_the_baselines_answers_get_our_labels(golden_folder, golden_tensors, waves) -> None:
    voter = load("wavlm", {"checkpoint": str(golden_folder("cat_ser")), **CPU})
    g = golden_tensors("wavlm_tiny/expected_cat_ser.safetensors")
    order = [0, 6, 5, 4, 2, 7, 1, 3]  # published: the baseline's scores in alphabetical order
    for i in ITEMS:
        expected = g[f"item{i}.logits"].softmax(-1)[order].numpy()
        answer = voter.vote([Utterance(waves[i])])[0]
        assert np.abs(np.array(answer.probabilities) - expected).max() < 2e-5
        assert answer.label == LABELS[int(expected.argmax())]


# --- end to end on random weights -------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path, shaken) -> Path:
    """A checkpoint of ours, labels in an order of its own, and a norm."""
    labels = tuple(reversed(LABELS))
    config = S1Config(TINY, "asp", 16, labels, WaveNorm("utterance"))
    folder = tmp_path / "ours"
    folder.mkdir()
    save_s1(shaken(S1(config)), folder)
    return folder


@pytest.fixture
def segments(speech) -> list[Utterance]:
    return [Utterance(speech(n, i)) for i, n in enumerate((16_000, 400, 40_123, 9_999))]


def table(answers) -> np.ndarray:
    return np.array([answer.probabilities for answer in answers])


def same(found: S1, expected: S1) -> bool:
    """Whether all weights of two models are equal."""
    other = expected.state_dict()
    return all(torch.equal(tensor, other[key]) for key, tensor in found.state_dict().items())


def test_what_is_saved_is_what_is_loaded_and_labels_go_by_name(
    checkpoint, shaken, segments, tmp_path
) -> None:
    model = load_s1(str(checkpoint))
    assert model.config.norm.kind == "utterance"
    assert model.config.labels == tuple(reversed(LABELS))
    assert same(model, shaken(S1(model.config)))
    voter = load("wavlm", {"checkpoint": str(checkpoint), **CPU})
    other = shutil.copytree(checkpoint, tmp_path / "renamed")
    fields = json.loads((other / "config.json").read_text())
    fields["labels"] = list(LABELS)
    (other / "config.json").write_text(json.dumps(fields))
    plain = load("wavlm", {"checkpoint": str(other), **CPU})
    assert np.allclose(table(voter.vote(segments)), table(plain.vote(segments))[:, ::-1])


def test_norms() -> None:
    wave = torch.tensor([0.1, -0.2, 0.4])
    expected = {
        "none": wave,
        "utterance": (wave - wave.mean()) / wave.std(correction=0),
        "global": (wave - 0.1) / 0.5,
    }
    for kind, found in expected.items():
        assert torch.allclose(WaveNorm(kind, mean=0.1, std=0.5)(wave), found, atol=1e-4)


def test_unfit_audio_abstains(checkpoint, segments) -> None:
    voter = load("wavlm", {"checkpoint": str(checkpoint), **CPU})
    answers = voter.vote([Utterance(segments[0].samples[:399]), segments[0]])
    assert isinstance(answers[0], Abstention)
    assert "399 samples" in answers[0].reason
    assert answers[1] == voter.vote([segments[0]])[0]


def test_size_of_wavlm_large() -> None:
    with torch.device("meta"):
        model = WavLMModel(WavLMConfig(**WAVLM_LARGE))
    frozen = [p.numel() for n, p in model.named_parameters() if "feature_extractor" in n]
    assert sum(p.numel() for p in model.parameters()) == 315_453_120
    assert sum(frozen) == 4_206_592


# --- what is refused --------------------------------------------------------------------


THEIR_NAMES = {
    "wavlm_model.": "ssl_model.",
    "head.pool.": "pool_model.",
    "head.fc.": "ser_model.fc.0.0.",
    "head.ln.": "ser_model.fc.0.1.",
    "head.out.": "ser_model.out.0.",
    "parametrizations.weight.original0": "weight_g",
    "parametrizations.weight.original1": "weight_v",
}


@pytest.fixture
def baseline(tmp_path, shaken) -> tuple[Path, dict, dict]:
    """The challenge baseline's layout, with the old names of the positional convolution."""
    folder = tmp_path / "baseline"
    (folder / "tiny-wavlm").mkdir(parents=True)
    (folder / "tiny-wavlm" / "config.json").write_text(json.dumps(TINY | {"model_type": "wavlm"}))
    names = ("Angry", "Sad", "Happy", "Surprise", "Fear", "Disgust", "Contempt", "Neutral")
    model = shaken(S1(S1Config(TINY, "asp", 16)))
    tensors = {}
    for key, tensor in model.state_dict().items():
        for ours, theirs in THEIR_NAMES.items():
            key = key.replace(ours, theirs)
        tensors[key] = tensor
    fields = {
        "ssl_type": "tiny-wavlm",
        "mean": 0.01,
        "std": 0.1,
        "id2label": {str(i): name for i, name in enumerate(names)},
        "auto_map": {"AutoModel": "pipeline_utils.SERModel"},
    }
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(fields))
    (folder / "pipeline_utils.py").write_text("raise SystemExit('this code ran')")
    return folder, tensors, fields


def test_the_baseline_loads_whole_and_runs_no_code(baseline, shaken) -> None:
    folder, _, fields = baseline
    model = load_s1(str(folder))
    assert same(model, shaken(S1(S1Config(TINY, "asp", 16))))
    assert model.config.norm == WaveNorm("global", 0.01, 0.1)
    assert label_map(model.config.labels, "b").indices == (0, 6, 5, 4, 2, 7, 1, 3)
    assert tuple(fields["id2label"].values()) == model.config.labels
    fields["id2label"]["0"] = "LABEL_0"
    (folder / "config.json").write_text(json.dumps(fields))
    voter = load("wavlm", {"checkpoint": str(folder), "labels": {"LABEL_0": "angry"}, **CPU})
    assert voter.card.labels == LABELS, "names can be given"


def test_the_baseline_of_attributes_gives_them_in_our_order(baseline, segments) -> None:
    """The layout of 3loi/...-Multi-Attributes: values from 0 to 1, not scores of a sigmoid."""
    folder, tensors, fields = baseline
    out = {k: tensors[f"ser_model.out.0.{k}"][:3] for k in ("weight", "bias")}
    out["bias"] = torch.tensor([0.5, 30.0, -30.0])
    save_file(
        tensors | {f"ser_model.out.0.{k}": t for k, t in out.items()}, folder / "model.safetensors"
    )
    fields["id2label"] = {"0": "arousal", "1": "dominance", "2": "valence"}
    (folder / "config.json").write_text(json.dumps(fields))
    voter = load("wavlm", {"checkpoint": str(folder), **CPU})
    assert (voter.card.labels, voter.card.attributes) == ((), True)
    model = load_s1(str(folder))
    for segment in segments:
        (answer,) = voter.vote([segment])
        arousal = float(model(*model.prepare([segment.samples]))[0, 0].clamp(0, 1))
        assert answer.attributes == pytest.approx((1 + 6 * arousal, 1.0, 7.0), abs=1e-4)
        assert (answer.label, answer.probabilities) == ("", None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ssl_model.encoder.pos_conv_embed.conv.weight_g": None}, "original0"),
        ({"ser_model.fc.1.0.weight": torch.ones(2)}, r"not of this model: ser_model\.fc\.1\.0"),
        ({"ser_model.out.0.weight": torch.ones(4, 16)}, r"out\.weight \[4, 16\] in place of \[8"),
        ({"pool_model.attention": torch.full((24, 1), float("nan"))}, "NaN or infinite"),
    ],
)
def test_weights_that_do_not_fit(baseline, change, message) -> None:
    folder, tensors, _ = baseline
    tensors = {k: v for k, v in (tensors | change).items() if v is not None}
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(KeysError, match=message):
        load_s1(str(folder))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"mean": None}, KeysError, "lacks mean"),
        ({"sampling_rate": 8_000}, OptionsError, "needs 8000 Hz"),
        ({"ssl_type": "./no-such-folder"}, MissingFileError, "no-such-folder"),
        ({"id2label": {"0": "Angry"}}, KeysError, r"in place of \[1"),
        ({"id2label": {str(i): f"LABEL_{i}" for i in range(8)}}, LabelsError, "LABEL_7"),
    ],
)
def test_configs_that_do_not_fit(baseline, change, error, message) -> None:
    folder, _, fields = baseline
    fields = {k: v for k, v in (fields | change).items() if v is not None}
    (folder / "config.json").write_text(json.dumps(fields))
    with pytest.raises(error, match=message):
        load("wavlm", {"checkpoint": str(folder), **CPU})


def test_a_weight_that_only_training_reads_may_be_missing_or_too_much(baseline) -> None:
    folder, tensors, _ = baseline
    bare = {k: v for k, v in tensors.items() if k != "ssl_model.masked_spec_embed"}
    assert len(bare) == len(tensors) - 1
    whole = load_s1(str(folder))
    save_file(bare, folder / "model.safetensors")
    wave = torch.ones(1, 4_000), torch.tensor([4_000])
    assert torch.equal(load_s1(str(folder))(*wave), whole(*wave))
    never = TINY | {"model_type": "wavlm", "mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    (folder / "tiny-wavlm" / "config.json").write_text(json.dumps(never))
    save_file(tensors, folder / "model.safetensors")
    assert torch.equal(load_s1(str(folder))(*wave), whole(*wave))


def test_folders_that_are_none(tmp_path, checkpoint) -> None:
    with pytest.raises(MissingFileError, match="does not exist"):
        load_s1(str(tmp_path / "nothing"))
    with pytest.raises(MissingFileError, match=r"not a folder with a config\.json"):
        load_s1(str(tmp_path))
    fields = json.loads((checkpoint / "config.json").read_text())
    counted = "out.weight [8, 16] in place of"
    for config, kind, message in (
        (json.dumps(fields | {"pool": "max"}), OptionsError, "pool 'max'"),
        ('{"architectures": ["Wav2Vec2ForX"]}', KeysError, "neither layout"),
        ("{", DamagedFileError, "not JSON"),
        (json.dumps(fields | {"labels": LABELS[:7]}), KeysError, f"{counted} [7"),
        (json.dumps(fields | {"labels": (*LABELS, "other")}), KeysError, f"{counted} [9"),
    ):
        (checkpoint / "config.json").write_text(config)
        with pytest.raises(kind, match=re.escape(message)) as caught:
            load("wavlm", {"checkpoint": str(checkpoint), **CPU})
        assert caught.value.remedy
