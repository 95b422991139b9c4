"""A source of samples in memory: an iterable of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from abhinaya.stream.clock import INT16_FULL_SCALE, unix_time
from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources.base import MOST_CHANNELS, RATES, Block, Opened, Warn
from abhinaya.stream.sources.condition import condition


def open_arrays(
    arrays: Iterable[npt.NDArray[Any]],
    rate: int,
    name: str,
    channels: Literal["mix", "split"],
    warn: Warn,
) -> Opened:
    """Open `arrays`, each [n] or [n, channels], int16 or floating point in [-1, 1].

    Raises:
        SourceError: the rate or the first array is not valid. A later array is checked when read.

    """
    if rate not in RATES:
        raise SourceError(
            name, f"has a sample rate of {rate}", f"give one from {RATES[0]} to {RATES[-1]}"
        )
    iterator = iter(arrays)
    first = [_samples(array, name) for array in _next(iterator, name)]
    count = first[0].shape[1] if first else 1

    def blocks() -> Iterator[Block]:
        for samples in first:
            yield Block(samples, rate, unix_time())
        while rest := _next(iterator, name):
            samples = _samples(rest[0], name)
            if samples.shape[1] != count:
                reason = f"has an array of {samples.shape[1]} channels after one of {count}"
                raise SourceError(name, reason, "give the same number in each")
            yield Block(samples, rate, unix_time())

    return Opened(
        channels=1 if channels == "mix" else count,
        live=False,
        description=f"{name}: samples, {rate} Hz",
        start_unix_s=unix_time(),
        audio=condition(blocks(), channels, name, warn),
        repeatable=False,
    )


def _next(iterator: Iterator[npt.NDArray[Any]], name: str) -> list[npt.NDArray[Any]]:
    """Return a list of the next array, empty at the end; translate errors of the iterator."""
    try:
        return [next(iterator)]
    except StopIteration:
        return []
    except Exception as error:
        reason = f"broke off with {type(error).__name__}: {error}"
        raise SourceError(name, reason, "correct the iterator") from error


def _samples(array: npt.NDArray[Any], name: str) -> npt.NDArray[np.float32]:
    """Return an array as float32 [n, channels] in [-1, 1]."""
    array = np.asarray(array)
    if array.ndim not in (1, 2) or (array.ndim == 2 and not 1 <= array.shape[1] <= MOST_CHANNELS):
        remedy = "give [n] or [n, channels]; one of [channels, n] needs a transpose"
        raise SourceError(name, f"has an array of shape {list(array.shape)}", remedy)
    if array.dtype == np.int16:
        samples = array.astype(np.float32) / INT16_FULL_SCALE
    elif array.dtype.kind == "f":
        samples = array.astype(np.float32)
    else:
        raise SourceError(name, f"has samples of type {array.dtype}", "give int16 or float32")
    return samples if samples.ndim == 2 else samples[:, None]
