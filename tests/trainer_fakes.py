"""A corpus of tones and the changes that make every recipe tiny."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import wave
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from tiny_checkpoints import ROBERTA, WAVLM, save_llm, save_salmonn, save_tokenizer, shaken
from transformers import RobertaConfig, RobertaForMaskedLM, WavLMConfig, WavLMModel

from abhinaya.models.checkpoint import Tensors, read
from abhinaya.models.labels import LABELS
from abhinaya.models.published.specs import NetworkSpec
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.manifest import Manifest, write_manifest
from abhinaya.train.loop.run_folder import RunFolder
from abhinaya.train.recipes.recipe import load_recipe

SPEAKERS = {"train": ("a", "b"), "dev": ("c",)}


def write_wav(path: Path, samples: np.ndarray, rate: int = 16_000) -> None:
    """Write one channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((samples * 32767).astype("<i2").tobytes())


def tones(folder: Path, takes: int = 2, labels: Sequence[str] = LABELS) -> Path:
    """Write a corpus: each label a tone of its own and words of its own; and its manifest."""
    rng = np.random.default_rng(0)
    clips = []
    who = [(split, speaker) for split, speakers in SPEAKERS.items() for speaker in speakers]
    for (split, speaker), (c, label), take in product(who, enumerate(labels), range(takes)):
        name = f"{speaker}-{label}-{take}"
        t = np.arange(int(16_000 * rng.uniform(0.45, 0.8))) / 16_000
        tone = 0.3 * np.sin(2 * np.pi * 150 * (c + 1) * t)
        write_wav(folder / f"{name}.wav", tone + 0.01 * rng.standard_normal(len(t)))
        clip = Clip(
            id=name,
            corpus="tones",
            speaker=speaker,
            votes={label: 2.0, labels[(c + 1) % len(labels)]: 1.0},
            path=f"{name}.wav",
            split=split,
            attributes={"arousal": c / 7, "valence": 1 - c / 7, "dominance": (c % 3) / 2},
            transcript=f"it is {label} now",
        )
        clips.append(clip)
    path = folder / "tones.jsonl"
    write_manifest(path, Manifest(folder, tuple(clips)))
    return path


def wavlm(folder: Path) -> Path:
    """Save a pre-trained WavLM as the Hub has it, but tiny and random."""
    if not folder.exists():
        shaken(WavLMModel(WavLMConfig(**WAVLM, mask_time_length=2))).save_pretrained(folder)
    return folder


def roberta(folder: Path) -> Path:
    """Save a pre-trained RoBERTa as the Hub has it, but tiny and random."""
    size = save_tokenizer(folder, pad_token="<unk>")
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = RobertaConfig(**ROBERTA, vocab_size=size, **tokens)
    shaken(RobertaForMaskedLM(config)).save_pretrained(folder)
    return folder


SMALL = ("train.batch=8", "train.accumulate=2", "train.epochs=1", "run.workers=0")
"""Two steps of 16 of the 32 training clips."""


def shrunk(recipe: str, folder: Path) -> list[str]:
    """Settings that make a recipe of the package tiny; its checkpoints are made in `folder`."""
    options: dict[str, object] = {"hidden": 16}
    if recipe in ("s2", "st1", "attributes-salmonn"):
        size = "7b" if recipe == "st1" else "13b"
        if not (folder / "beats.pt").exists():
            save_salmonn(folder)
        files = {"whisper": "whisper", "beats": "beats.pt", "llm": f"vicuna-{size}"}
        files["adapter"] = f"salmonn-{size}.pth"
        options |= {name: folder / file for name, file in files.items()}
    elif recipe in ("t2", "attributes-text"):
        options["llm"] = save_llm(folder / "llama", "<|begin_of_text|>", "<|end_of_text|>")
    elif load_recipe(recipe).model.learner in ("encoder", "fusion"):
        return [*SMALL, "data.balanced=0", *tiny_members(recipe, folder)]
    else:
        options["encoder"] = wavlm(folder / "wavlm")
    more = ["stages=[]"] if recipe == "wavlm-votes" else []
    settings = [f"model.options.{name}={value}" for name, value in options.items()]
    return [*SMALL, "data.balanced=0", *more, *settings]


def tiny_members(recipe: str, folder: Path) -> list[str]:
    """Settings that make every encoder of a network tiny; its own options stay."""
    spec = load_recipe(recipe).options
    assert isinstance(spec, NetworkSpec)
    settings = ["model.options.width=16", f"model.options.hidden={[16 for _ in spec.hidden]}"]
    for i, member in enumerate(spec.members):
        made = roberta if member.modality == "text" else wavlm
        settings.append(f"model.options.members.{i}.name={made(folder / made.__name__)}")
    return settings


def logged(run: Path, kind: str = "step") -> list[dict[str, object]]:
    """Lines of one kind of a run's log."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
    return [line for line in lines if line["type"] == kind]


# --- runs in processes of their own ---------------------------------------------------------------

LIMIT_S = 240.0


def start(
    arguments: Sequence[str], launch: Sequence[str] = (), more: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start `abhinaya train` on the CPU; what it says is beside its --out, with .txt."""
    own = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    with open(f"{arguments[4]}.txt", "ab") as said:
        return subprocess.Popen(
            [sys.executable, *launch, "-m", "abhinaya.train", *arguments],
            stdout=said,
            stderr=said,
            env={**os.environ, **(more or {}), **own},
            start_new_session=True,
        )


def finish(
    arguments: Sequence[str], launch: Sequence[str] = (), more: Mapping[str, str] | None = None
) -> str:
    """Run it to its end; what it said."""
    code = start(arguments, launch, more).wait(LIMIT_S)
    said = Path(f"{arguments[4]}.txt").read_text("utf-8")
    assert code == 0, said[-2_000:]
    return said


def wait_for(process: subprocess.Popen[bytes], out: Path, steps: int) -> None:
    """Wait until a run has made so many steps."""
    log, until = out / "log.jsonl", time.monotonic() + LIMIT_S
    while not log.exists() or log.read_bytes().count(b'"type": "step"') < steps:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.002)


def kept(out: Path, file: str = "learning") -> Tensors:
    """What the last state of a run holds."""
    return read(RunFolder(out).states()[-1] / f"{file}.safetensors").tensors


def same(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(one[k].equal(other[k]) for k in one)
