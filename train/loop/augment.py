"""Augmentation of single clips: crop, recording channel, low-rate codec, joining two clips.

`train/data/channels.py` simulates channels. Equal seeds and clips give equal samples.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import av
import numpy as np

from abhinaya.models.base import SAMPLE_RATE, FloatArray
from abhinaya.train.data.audio import read_audio
from abhinaya.train.data.channels import Surroundings, draw_channel, send_through
from abhinaya.train.errors import DataError
from abhinaya.train.recipes.recipe import AugmentRecipe


@dataclass(frozen=True, slots=True)
class Sound:
    """The samples of a clip and its target."""

    samples: FloatArray
    """[n] 16 kHz mono in [-1, 1]."""
    votes: FloatArray
    """[C] shares of the votes, which sum to 1."""


def augment(
    sound_of: Callable[[int], Sound],
    n: int,
    i: int,
    recipe: AugmentRecipe,
    crop_s: float | None,
    around: Surroundings,
    seed: int,
    epoch: int = 0,
) -> Sound:
    """Augment sound `i` of `n`, perhaps joined with another of them, drawn by (seed, epoch, i).

    Clips longer than `crop_s` seconds are cut to it at a random place; in the paper 10 s.
    """
    rng = np.random.default_rng((seed, epoch, i))
    sound = sound_of(i)
    if n > 1 and rng.random() < recipe.pair:
        partner = sound_of((i + 1 + int(rng.integers(n - 1))) % n)
        gap_s = float(rng.uniform(recipe.pair_from_s, recipe.pair_to_s))
        sound = mix_pair(sound, partner, gap_s)
    samples = sound.samples
    if crop_s is not None:
        samples = crop(samples, crop_s, rng)
    if rng.random() < recipe.channel:
        samples = send_through(samples, draw_channel(rng, around), rng)
    if rng.random() < recipe.codec:
        samples = through_opus(samples, int(rng.choice([8_000, 12_000, 24_000])))
    return Sound(samples, sound.votes)


def crop(samples: FloatArray, seconds: float, rng: np.random.Generator) -> FloatArray:
    """Return at most `seconds` of samples [n], from a random place."""
    longest = round(seconds * SAMPLE_RATE)
    if len(samples) <= longest:
        return samples
    start = int(rng.integers(len(samples) - longest + 1))
    return samples[start : start + longest]


def mix_pair(first: Sound, second: Sound, gap_s: float) -> Sound:
    """Join two clips with a gap of `gap_s` seconds between them; below 0 they overlap.

    The votes are the mean of both, as in SAIL's mixing. An overlap is at most as long as the
    shorter clip. The sum is scaled down only if it would clip.
    """
    gap = max(round(gap_s * SAMPLE_RATE), -min(len(first.samples), len(second.samples)))
    start = len(first.samples) + gap
    mixed = np.zeros(max(len(first.samples), start + len(second.samples)), np.float32)
    mixed[: len(first.samples)] += first.samples
    mixed[start : start + len(second.samples)] += second.samples
    peak = float(np.abs(mixed).max(initial=0.0))
    votes: FloatArray = ((first.votes + second.votes) / 2.0).astype(np.float32)
    return Sound(mixed / max(1.0, peak), votes)


def through_opus(samples: FloatArray, bits_per_s: int) -> FloatArray:
    """Return samples [n] after encoding and decoding with Opus; the length stays the same.

    Raises DataError: this build of FFmpeg has no Opus, or it does not support the rate.
    """
    packed = io.BytesIO()
    try:
        with av.open(packed, "w", format="ogg") as out:
            stream = out.add_stream("libopus", rate=48_000, layout="mono")
            stream.bit_rate = bits_per_s
            frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout="mono")
            frame.sample_rate = SAMPLE_RATE
            resampler = av.AudioResampler(
                format=stream.format.name, layout="mono", rate=48_000,
                frame_size=stream.codec_context.frame_size or 960,
            )  # fmt: skip
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                out.mux(stream.encode(piece))
            out.mux(stream.encode(None))
        packed.seek(0)
        decoded = read_audio(packed)[: len(samples)]
    except (av.FFmpegError, KeyError, ValueError) as error:
        raise DataError(f"Opus at {bits_per_s} bit/s: {error}; set augment.codec=0") from error
    whole: FloatArray = np.pad(decoded, (0, len(samples) - len(decoded)))
    return whole
