"""A tiny corpus of each kind, made up: voices are tones, sentences are three words."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from trainer_fakes import tones, write_wav
from transformers import BertConfig, BertModel, BertTokenizer

from abhinaya.models.labels import LABELS
from abhinaya.models.tiny.tokens import SPECIAL

SPEAKERS = {
    "ravdess": ("ravdess_01", "ravdess_15", "ravdess_17"),
    "nemo": ("nemo_EB0", "nemo_MK0", "nemo_KD0"),
    "urdu": ("urdu_01",),
    "emogator": ("emogator_000001",),
}


def _write_speech(data: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for corpus, speakers in SPEAKERS.items():
        for speaker in speakers:
            for c, label in enumerate(x for x in LABELS if x != "contempt"):
                for take in range(2):
                    path = f"{corpus}/{speaker}-{label}-{take}.wav"
                    t = np.arange(int(24_000 * rng.uniform(0.5, 0.9))) / 24_000
                    tone = 0.3 * np.sin(2 * np.pi * 150 * (c + 1) * t) * (t % 0.2 < 0.15)
                    write_wav(data / path, tone + 0.01 * rng.standard_normal(len(t)), 24_000)
                    split = "dev" if speaker.endswith(("17", "KD0")) else "train"
                    kind = "vocal_burst" if corpus == "emogator" else "speech"
                    rows.append([path, corpus, speaker, kind, label, split])
    with (data / "speech.csv").open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["path", "corpus", "speaker", "kind", "label8", "suggested_split"])
        writer.writerows(rows)


def _write_texts(data: Path) -> None:
    folder = data / "text" / "goemotions"
    folder.mkdir(parents=True)
    names = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")
    (folder / "ekman_labels.txt").write_text("\n".join(names))
    for split in ("train", "dev"):
        lines = [
            f"It's {name}, [NAME] {k}!\t{i}\t{split}{k}{name}\n"
            for k in range(60)
            for i, name in enumerate(names)
        ]
        lines.append(f"two at once\t0,1\t{split}\n")
        (folder / f"ekman_{split}.tsv").write_text("".join(lines))
    folder = data / "text" / "emorynlp"
    folder.mkdir(parents=True)
    table = 'Utterance,Emotion\n"Oh, no!",Scared\nCoffee.,Neutral\nMine.,Powerful\n'
    for split in ("train", "dev"):
        (folder / f"{split}.csv").write_text(table)
    folder = data / "text" / "reccon"
    folder.mkdir(parents=True)
    turns = [
        {"utterance": f"It's {word} {k} !", "emotion": emotion}
        for k in range(9)
        for word, emotion in (("lovely", "happines"), ("noon", "neutral"), ("both", "other"))
    ]
    for split in ("train", "valid"):
        (folder / f"{split}.json").write_text(json.dumps({"tr_0": [turns]}))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    _write_speech(data)
    _write_texts(data)
    rng = np.random.default_rng(1)
    for folder, suffix in (("noise", "opus"), ("rir", "flac")):
        # a wav by another name: what a file is called decides nothing for the decoder
        samples = 0.1 * rng.standard_normal(8_000) * np.exp(-np.arange(8_000) / 800)
        write_wav(data / folder / f"one.{suffix}", samples, 16_000)
    for reader in ("6", "7", "8"):  # one to calibrate with, one to learn from, one to measure
        hum = 0.3 * np.sin(np.arange(48_000) / 20)
        write_wav(data / "neutral_voices" / f"{reader}-one.opus", hum, 16_000)
    return data


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT in the layout of transformers, which knows every letter and a few words."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("encoder")
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    known = [*SPECIAL, "[MASK]", *letters, *(f"##{x}" for x in letters), "joy", "sad", "##ness"]
    (folder / "vocab.txt").write_text("\n".join(known))
    BertTokenizer.from_pretrained(str(folder)).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(known), hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=128,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `shrunk` makes tiny checkpoints."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tones(tmp_path_factory.mktemp("tones"))


@pytest.fixture(autouse=True)
def own_accelerator() -> Iterator[None]:
    """Accelerate keeps its state for the life of a process; a command is one process, tests not."""
    yield
    AcceleratorState._reset_state(True)
