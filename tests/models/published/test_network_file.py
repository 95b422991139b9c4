"""Checkpoints of networks: what was trained is inside, what was not is loaded by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_checkpoints import shaken
from tiny_encoders import TEXT, save_encoder

from abhinaya.models.base import Utterance
from abhinaya.models.checkpoint import save
from abhinaya.models.errors import ModelError
from abhinaya.models.labels import LABELS
from abhinaya.models.published.encoders import load_encoder
from abhinaya.models.published.fusion import Network
from abhinaya.models.published.network_file import NetworkFile, load_network, save_network
from abhinaya.models.published.specs import EncoderSpec, NetworkSpec
from abhinaya.models.published.wavlm import WaveNorm
from abhinaya.models.registry import load

WAVE = np.random.default_rng(1).normal(0, 0.1, 12_000).astype(np.float32)


def checkpoint(kind: str, train: str, folder: Path) -> tuple[Network, Path]:
    """Write the checkpoint of a network over one tiny encoder that is trained so."""
    targets = ("fc1", "fc2") if kind == "whisper" and train == "lora" else ()
    spec = EncoderSpec(
        str(save_encoder(kind, folder)),
        modality="text" if kind in TEXT else "audio",
        train=train,
        max_s=2.0,
        targets=targets,
    )
    encoder = load_encoder(spec, WaveNorm())
    network = NetworkSpec((spec,), hidden=(8,))
    made = Network(network, [encoder], {"primary": 8})
    trained = {k for k, p in made.named_parameters() if p.requires_grad}
    before = {k: t.clone() for k, t in made.state_dict().items()}
    shaken(made, 5)
    made.load_state_dict({k: t for k, t in before.items() if k not in trained}, strict=False)
    best = folder / f"{kind}-{train.replace(':', '')}"
    best.mkdir()
    file = NetworkFile(network, {"primary": LABELS}, WaveNorm())
    save_network(made, file, best, made.state_dict(), {})
    return made, best


@pytest.mark.parametrize(
    ("kind", "train"),
    [
        *(("wavlm", train) for train in ("tuned", "top:1", "lora")),
        *((kind, "tuned") for kind in ("wav2vec2-group", "whisper", "roberta", "deberta", "t5")),
        ("whisper", "lora"),
        ("modernbert", "lora"),
    ],
)
def test_a_checkpoint_is_the_network_that_was_saved(kind: str, train: str, tmp_path: Path) -> None:
    made, best = checkpoint(kind, train, tmp_path)
    if train != "lora":  # it needs no other file
        (tmp_path / kind).rename(tmp_path / "gone")
    _, found, (encoder,) = load_network(best)
    x, n = encoder.reader.prepare(["it is sad now"] if kind in TEXT else [WAVE])
    with torch.no_grad():
        torch.testing.assert_close(found([(x, n)]), made([(x, n)]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"spec": {"members": []}}, "members is empty"),
        ({"spec": {"fuze": "cross"}}, "fuze is not a setting, did you mean 'fuse'"),
        ({"heads": {"primary": [*LABELS[:7], "glee"]}}, "glee"),
        ({"heads": {"primary": LABELS[:7]}}, "another shape"),
        ({"heads": {"gender": ["f", "m"]}}, "no labels and no attributes"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    change: dict[str, dict[str, object]], said: str, tmp_path: Path
) -> None:
    made, best = checkpoint("bert", "tuned", tmp_path)
    table = json.loads((best / "config.json").read_text())
    for key, values in change.items():
        table[key] = {**(table[key] if key == "spec" else {}), **values}
    if "gender" in table["heads"]:
        state = {
            k.replace("primary", "gender"): t[:2]
            for k, t in made.state_dict().items()
            if "heads" in k
        }
        rest = {k: t for k, t in made.state_dict().items() if "heads" not in k}
        save(best / "model.safetensors", rest | state)
    (best / "config.json").write_text(json.dumps(table))
    with pytest.raises(ModelError, match=said):
        load("encoder", {"checkpoint": str(best), "device": "cpu"})


def test_a_text_voter_abstains_without_words(tmp_path: Path) -> None:
    _, best = checkpoint("bert", "frozen", tmp_path)
    voter = load("encoder", {"checkpoint": str(best), "device": "cpu", "licence": "MIT"})
    assert (voter.card.needs, voter.card.licence) == ({"transcript"}, "MIT")
    silent, heard = voter.vote([Utterance(WAVE), Utterance(WAVE[:0], transcript="sad")])
    assert "transcript is empty" in getattr(silent, "reason", "")
    assert getattr(heard, "label", "") in LABELS
    (tmp_path / "bert").rename(tmp_path / "gone")
    with pytest.raises(ModelError, match="bert: it does not exist"):
        load("encoder", {"checkpoint": str(best)})
