"""Conditioning: turn blocks of any rate and channel count into clean chunks at 16 kHz."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final, Literal

import numpy as np

from abhinaya.stream.clock import SAMPLE_RATE, to_seconds
from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources.base import AudioChunk, Block, FloatArray, Warn


class Resampler:
    """Resamples audio without gaps to 16 kHz. Fed in pieces equals fed whole.

    Args:
        rate: samples a second of the input.
        channels: number of channels.

    """

    def __init__(self, rate: int, channels: int) -> None:
        self.rate = rate
        self._channels = channels
        self._stream: Any = None
        self._reset()

    def feed(self, samples: FloatArray) -> FloatArray:
        """Add samples [n, channels]; return the finished samples at 16 kHz [m, channels]."""
        return self._run(samples, last=False)

    def flush(self) -> FloatArray:
        """Return the remaining samples [m, channels] and reset."""
        rest = self._run(np.zeros((0, self._channels), np.float32), last=True)
        self._reset()
        return rest

    def _reset(self) -> None:
        if self.rate != SAMPLE_RATE:
            import soxr

            self._stream = soxr.ResampleStream(self.rate, SAMPLE_RATE, self._channels, "float32")

    def _run(self, samples: FloatArray, *, last: bool) -> FloatArray:
        if self._stream is None:
            return samples
        out: FloatArray = self._stream.resample_chunk(np.ascontiguousarray(samples), last=last)
        return out.reshape(-1, self._channels)


def condition(
    blocks: Iterator[Block], channels: Literal["mix", "split"], subject: str, warn: Warn
) -> Iterator[AudioChunk]:
    """Yield `blocks` as clean chunks at 16 kHz. Every lost sample is counted in a chunk.

    If `blocks` raises, the resampler's last samples are yielded before the error.

    Raises:
        SourceError: from `blocks`, or the number of split channels changed.

    """
    conditioner = Conditioner(channels, subject, warn)
    failure: SourceError | None = None
    try:
        for block in blocks:
            yield from conditioner.feed(block)
    except SourceError as error:
        failure = error
    yield from conditioner.finish()
    if failure is not None:
        raise failure


class Conditioner:
    """Conditions one block after the other; see `condition`."""

    def __init__(self, channels: Literal["mix", "split"], subject: str, warn: Warn) -> None:
        self._mix = channels == "mix"
        self._subject = subject
        self._warn = warn
        self._resampler: Resampler | None = None
        self._count = 0  # channels of the blocks, before mixing
        self._due = Fraction(0)  # exact length of the blocks so far, losses included, at 16 kHz
        self._given = 0  # samples at 16 kHz delivered or marked as lost
        self._captured_unix_s = 0.0
        self._invalid = 0
        self._phase = _Phase()
        self._said_turned = False

    def feed(self, block: Block) -> Iterator[AudioChunk]:
        """Process the next block; a loss or a new rate flushes the resampler first."""
        if self._resampler is None or self._resampler.rate != block.rate or block.lost_samples:
            yield from self._flush()
        self._due += Fraction(block.lost_samples * SAMPLE_RATE, block.rate)
        lost = max(0, round(self._due) - self._given) if block.lost_samples else 0
        self._given += lost
        samples = self._clean(block.samples, block.weights)
        if self._resampler is None or self._resampler.rate != block.rate:
            self._resampler = Resampler(block.rate, samples.shape[1])
        self._due += Fraction(len(samples) * SAMPLE_RATE, block.rate)
        self._captured_unix_s = block.captured_unix_s
        yield from self._give(self._resampler.feed(samples), lost, block.lost_reason)

    def finish(self) -> Iterator[AudioChunk]:
        """Yield the remaining samples."""
        yield from self._flush()
        if self._invalid > 1:
            self._warn(f"{self._subject}: {self._invalid} samples in all were not numbers")

    def _flush(self) -> Iterator[AudioChunk]:
        if self._resampler is not None:
            yield from self._give(self._resampler.flush(), 0)

    def _give(self, samples: FloatArray, lost: int, why: str = "") -> Iterator[AudioChunk]:
        self._given += len(samples)
        if len(samples) or lost:
            # resampling may overshoot, and float input may exceed full scale
            yield AudioChunk(np.clip(samples, -1.0, 1.0), self._captured_unix_s, lost, why)

    def _clean(self, samples: FloatArray, weights: FloatArray | None) -> FloatArray:
        """Replace NaN and infinity by silence, and mix if asked; [n, channels in] -> [n, out]."""
        count = samples.shape[1]
        if self._count and count != self._count and not self._mix:
            at = to_seconds(round(self._due))
            reason = f"has {count} channels instead of {self._count} from {at:.2f} s on"
            raise SourceError(self._subject, reason, "read it with --channels mix")
        self._count = count
        finite = np.isfinite(samples)
        if not finite.all():
            if not self._invalid:
                at = to_seconds(round(self._due))
                self._warn(
                    f"{self._subject}: holds samples that are not numbers (first near {at:.2f} s);"
                    " they are replaced by silence"
                )
            self._invalid += int(samples.size - finite.sum())
            samples = np.where(finite, samples, np.float32(0))
        # huge float values must not overflow in the mean or the resampler
        samples = np.clip(samples, -1e6, 1e6)
        return self._mixed(samples, weights) if self._mix else samples

    def _mixed(self, samples: FloatArray, weights: FloatArray | None) -> FloatArray:
        if weights is not None:
            mixed: FloatArray = np.matmul(samples, weights[:, None], dtype=np.float32)
            return mixed
        if samples.shape[1] != 2:
            mixed = samples.mean(axis=1, keepdims=True, dtype=np.float32)
            return mixed
        mixed = self._phase.mix(samples)
        if self._phase.turned and not self._said_turned:
            self._said_turned = True
            at = f"near {to_seconds(round(self._due)):.1f} s"
            opposite = f"its two channels are in opposite phase {at}"
            self._warn(f"{self._subject}: {opposite}; the second one is turned over in the mix")
        return mixed


class _Phase:
    """Mixes two channels; turns the second over while they would cancel each other.

    Each window of samples is mixed as the windows before it demand, so the result does not depend
    on how the samples are cut into blocks.
    """

    WINDOW: Final = 2048
    OPPOSITE: Final = 0.02
    """Power of the sum of the channels, relative to that of their difference."""
    KEPT: Final = 0.8
    QUIET: Final = 1e-8
    """Mean power below which a window tells nothing."""

    def __init__(self) -> None:
        self.turned = False
        self._filled = 0
        self._window = np.zeros(2)  # power of sum and difference in the current window
        self._power = np.zeros(2)  # the same of the windows before, later ones count more

    def mix(self, samples: FloatArray) -> FloatArray:
        """Return [n, 2] as [n, 1]."""
        mixed = np.empty((len(samples), 1), np.float32)
        begin = 0
        while begin < len(samples):
            part = samples[begin : begin + self.WINDOW - self._filled]
            both, apart = part[:, 0] + part[:, 1], part[:, 0] - part[:, 1]
            end = begin + len(part)
            mixed[begin:end, 0] = (apart if self.turned else both) / 2
            self._window += (np.dot(both, both), np.dot(apart, apart))
            self._filled += len(part)
            begin = end
            if self._filled == self.WINDOW:
                self._decide()
        return mixed

    def _decide(self) -> None:
        if self._window.max() > self.QUIET * self.WINDOW:
            self._power = self.KEPT * self._power + self._window
            both, apart = self._power
            self.turned = bool(apart > both if self.turned else both < self.OPPOSITE * apart)
        self._filled = 0
        self._window = np.zeros(2)
