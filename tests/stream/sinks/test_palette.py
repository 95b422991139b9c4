"""The colours of labels: readable on any background, and apart for every kind of eye."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest

from abhinaya.models.labels import LABELS, UNKNOWN
from abhinaya.stream.sinks.palette import COLOURS, LETTERS

FloatArray = npt.NDArray[np.float64]


def matrix(numbers: str) -> FloatArray:
    return np.array(numbers.split(), float).reshape(3, 3)


SIGHT = {
    "normal": np.eye(3),
    "protanopia": matrix(
        "0.152286 1.052583 -0.204868 0.114503 0.786281 0.099216 -0.003882 -0.048116 1.051998"
    ),
    "deuteranopia": matrix(
        "0.367322 0.860646 -0.227968 0.280085 0.672501 0.047413 -0.011820 0.042940 0.968881"
    ),
    "tritanopia": matrix(
        "1.255528 -0.076749 -0.178779 -0.078411 0.930809 0.147602 0.004733 0.691367 0.303900"
    ),
}
"""Linear RGB as it is seen: Machado, Oliveira and Fernandes (2009), severity 1."""

TO_CONES = matrix(
    "0.4122214708 0.5363325363 0.0514459929 0.2119034982 0.6806995451 0.1073969566 "
    "0.0883024619 0.2817188376 0.6299787005"
)
TO_OKLAB = matrix(
    "0.2104542553 0.7936177850 -0.0040720468 1.9779984951 -2.4285922050 0.4505937099 "
    "0.0259040371 0.7827717662 -0.8086757660"
)
"""Ottosson (2020): distances in Oklab are about as large as the difference that is seen."""

JUST_SEEN = 0.02
APART = 0.08


def linear(colour: str) -> FloatArray:
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def oklab(light: FloatArray) -> FloatArray:
    seen: FloatArray = np.cbrt(TO_CONES @ np.clip(light, 0, 1)) @ TO_OKLAB.T
    return seen


def luminance(colour: str) -> float:
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("label", COLOURS)
def test_a_colour_can_be_read_on_black_and_on_white(label: str) -> None:
    """WCAG 2.2, 1.4.11: 3 to 1."""
    light = luminance(COLOURS[label])
    assert 1.05 / (light + 0.05) >= 3
    assert (light + 0.05) / 0.05 >= 3


@pytest.mark.parametrize("sight", SIGHT)
def test_colours_are_apart_for_every_kind_of_eye(sight: str) -> None:
    seen = {label: oklab(SIGHT[sight] @ linear(COLOURS[label])) for label in LABELS}
    apart = {
        (one, other): float(np.linalg.norm(seen[one] - seen[other]))
        for one, other in combinations(LABELS, 2)
    }
    closest = min(apart, key=lambda pair: apart[pair])
    assert apart[closest] >= APART > 3 * JUST_SEEN, closest


def test_letters_tell_labels_apart() -> None:
    assert set(LETTERS) == set(COLOURS) == {*LABELS, UNKNOWN}
    assert len(set(LETTERS.values())) == len(LETTERS)
    assert len({label[:2] for label in LABELS}) == len(LABELS)
