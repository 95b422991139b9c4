"""The eight emotions, in the one order that every array of probabilities uses; three attributes.

Published checkpoints have other classes in other orders. They are translated by name, never by
position: a wrong order raises no error, but makes every answer wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Final, NamedTuple, Self

import msgspec
import numpy as np
import numpy.typing as npt

from abhinaya.models.errors import LabelsError, listed

LABELS: Final = ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""Canonical order, alphabetical: index c of any probability vector [C] is LABELS[c]."""

UNKNOWN: Final = "unknown"
"""The label of a verdict with too few votes. A voter must not return it."""

LOW, HIGH = 1.0, 7.0
"""Ends of the scale of the attributes, as annotators of MSP-Podcast use it."""
Rating = Annotated[float, msgspec.Meta(ge=LOW, le=HIGH)]


class Attributes(NamedTuple):
    """Arousal (calm to active), valence (negative to positive), dominance (weak to strong)."""

    arousal: Rating
    valence: Rating
    dominance: Rating

    @classmethod
    def from_unit(cls, values: Sequence[float]) -> Self:
        """Return the attributes for values from 0 to 1, the scale of training."""
        return cls(*(LOW + (HIGH - LOW) * value for value in values))

    def __str__(self) -> str:
        return " ".join(f"{name[0].upper()} {value:.1f}" for name, value in self._asdict().items())


ATTRIBUTES: Final = Attributes._fields
"""Names of the attributes, in the order of every array of them."""

FOREIGN_ORDERS: Final[Mapping[str, tuple[str, ...]]] = {
    "challenge-baseline": (
        "Angry", "Sad", "Happy", "Surprise", "Fear", "Disgust", "Contempt", "Neutral",
    ),
    "vox-profile-9": (
        "Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise",
        "Other",
    ),
    "emotion2vec-plus-9": (
        "angry", "disgusted", "fearful", "happy", "neutral", "other", "sad", "surprised", "<unk>",
    ),
    "superb-4": ("neu", "hap", "ang", "sad"),
    "go-emotions-28": (
        "admiration", "amusement", "anger", "annoyance", "approval", "caring", "confusion",
        "curiosity", "desire", "disappointment", "disapproval", "disgust", "embarrassment",
        "excitement", "fear", "gratitude", "grief", "joy", "love", "nervousness", "optimism",
        "pride", "realization", "relief", "remorse", "sadness", "surprise", "neutral",
    ),
    "ekman-7": ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise"),
}  # fmt: skip
"""Class orders for checkpoints without label names: labels = "superb-4" in a profile."""

# GoEmotions' labels are grouped into Ekman's six as its authors published (Demszky et al., 2020);
# it has no contempt.
_ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "angry": ("anger", "ang", "annoyance", "disapproval"),
    "contempt": ("contemptuous",),
    "disgust": ("disgusted", "dis"),
    "fear": ("fearful", "fea", "afraid", "scared", "nervousness"),
    "happy": (
        "happiness", "hap", "joy", "joyful", "exc", "excited", "amusement", "approval",
        "excitement", "gratitude", "love", "optimism", "relief", "pride", "admiration", "desire",
        "caring",
    ),
    "neutral": ("neu", "calm"),
    "sad": ("sadness", "disappointment", "embarrassment", "grief", "remorse"),
    "surprise": ("surprised", "sur", "realization", "confusion", "curiosity"),
}  # fmt: skip

_CANONICAL: Final = {
    alias: label for label in LABELS for alias in (label, *_ALIASES[label])
}  # alias -> label

_NO_EMOTION: Final = frozenset({"other", "others", "unknown", "unk", "<unk>"})
"""Classes outside the eight: their probability is dropped."""


@dataclass(frozen=True, slots=True)
class LabelMap:
    """Map from the K classes of a checkpoint to the C labels, and the places of its attributes."""

    names: tuple[str, ...]
    """[K] class names of the checkpoint, in its order; empty if it has only attributes."""
    targets: tuple[str | None, ...]
    """[K] label of each class; None for a class outside the eight."""
    attributes: tuple[int, ...] = ()
    """Place of each of ATTRIBUTES among all outputs, which are classes and attributes; empty if
    the checkpoint has none."""

    @property
    def classes(self) -> list[int]:
        """[K] place of each class among all outputs."""
        outputs = range(len(self.names) + len(self.attributes))
        return [place for place in outputs if place not in self.attributes]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that the checkpoint can return, in the order of LABELS."""
        return tuple(label for label in LABELS if label in self.targets)

    @property
    def matrix(self) -> npt.NDArray[np.float32]:
        """[K, C] zeros and ones: class probabilities [K] @ matrix = label probabilities [C]."""
        rows = [[float(target == label) for label in LABELS] for target in self.targets]
        return np.array(rows, dtype=np.float32)

    @property
    def indices(self) -> tuple[int, ...]:
        """[C] index of each label of LABELS among the checkpoint's classes.

        Raises:
            LabelsError: the classes are not the eight labels, each once.

        """
        if sorted(target or "" for target in self.targets) != sorted(LABELS):
            raise LabelsError(
                f"labels {', '.join(self.names)}",
                "they are not the eight emotions, each exactly once",
                "use a checkpoint with the eight classes, or a voter that maps label groups",
            )
        return tuple(self.targets.index(label) for label in LABELS)


CANONICAL_MAP: Final = LabelMap(LABELS, LABELS)
"""Map for checkpoints in the order of this package, which is also ABHINAYA's: A C D F H N S U."""


def own_labels(
    given: Sequence[str] | str | None, stored: Sequence[str] | None, subject: object
) -> Sequence[str]:
    """Return the class names of a checkpoint in its order: stored, else given, else LABELS.

    `given` may be the name of one of FOREIGN_ORDERS.

    Raises:
        LabelsError: stored and given names differ.

    """
    if isinstance(given, str):
        given = _order(given, subject)
    if given is not None and stored is not None and list(given) != list(stored):
        raise LabelsError(
            subject,
            f"it was trained with its classes in the order {', '.join(stored)},"
            f" and the option labels says {', '.join(given)}",
            "leave the option out: the file names its classes",
        )
    return stored or given or LABELS


def label_map(
    names: Sequence[str], subject: object, overrides: Mapping[str, str] | str | None = None
) -> LabelMap:
    """Return the map of a checkpoint's outputs, in its order: names of classes and of attributes.

    `overrides` gives the labels of unknown names: {"LABEL_0": "angry", ...}. For a checkpoint with
    meaningless names, `overrides` is the name of one of FOREIGN_ORDERS.

    Raises:
        LabelsError: a name does not map or appears twice, or an override is wrong; or the
            checkpoint has some of the attributes, but not all.

    """
    if isinstance(overrides, str):
        return label_map(_unnamed(names, subject, _order(overrides, subject)), subject)
    plain = [_plain(name) for name in names]
    if lacking := [name for name in ATTRIBUTES if name not in plain]:
        if len(lacking) < len(ATTRIBUTES):
            raise LabelsError(
                subject,
                f"it gives attributes, but not {listed(lacking)}",
                f"use a checkpoint that gives {', '.join(ATTRIBUTES)}",
            )
    else:
        places = tuple(plain.index(name) for name in ATTRIBUTES)
        names = [name for place, name in enumerate(names) if place not in places]
        classes = label_map(names, subject, overrides) if names else LabelMap((), ())
        return replace(classes, attributes=places)
    chosen = dict(overrides or {})
    _check_overrides(names, subject, chosen)
    if repeated := {name for name in names if list(names).count(name) > 1}:
        raise LabelsError(
            subject,
            f"class names appear more than once: {listed(repeated)}",
            "correct id2label in its config.json",
        )
    targets = tuple(chosen[name] if name in chosen else _canonical(name) for name in names)
    if unmapped := [n for n, t in zip(names, targets, strict=True) if t is None and not _none(n)]:
        raise LabelsError(
            subject,
            f"class names that map to none of the eight emotions: {listed(unmapped)}",
            f"give their meaning with the option labels, out of {', '.join(LABELS)}",
        )
    found = LabelMap(tuple(names), targets)
    if not found.labels:
        raise LabelsError(subject, "it names no emotion at all", "use an emotion checkpoint")
    return found


def _order(name: str, subject: object) -> tuple[str, ...]:
    if name not in FOREIGN_ORDERS:
        raise LabelsError(
            subject,
            f"the option labels is {name!r}, which is an unknown order",
            f"name the classes, or one of {', '.join(FOREIGN_ORDERS)}",
        )
    return FOREIGN_ORDERS[name]


def _unnamed(names: Sequence[str], subject: object, order: Sequence[str]) -> Sequence[str]:
    """Return `order` in place of meaningless names; refuse if a name has a meaning."""
    if named := [name for name in names if _canonical(name) or _none(name)]:
        raise LabelsError(
            subject,
            f"its classes have names of their own: {listed(named)}",
            "leave the option labels out, or give the meaning of single names",
        )
    if len(names) != len(order):
        raise LabelsError(
            subject,
            f"the model has {len(names)} classes, but the option `labels` has {len(order)}",
            "use the order that it was trained with",
        )
    return order


def _check_overrides(names: Sequence[str], subject: object, overrides: Mapping[str, str]) -> None:
    if unknown := set(overrides) - set(names):
        raise LabelsError(
            subject,
            f"the option `labels` has classes that the model does not have: {listed(unknown)}",
            f"its classes are {', '.join(names)}",
        )
    if wrong := set(overrides.values()) - set(LABELS):
        raise LabelsError(
            subject,
            f"the option `labels` maps to names that are not labels: {listed(wrong)}",
            f"use {', '.join(LABELS)}",
        )


def _plain(name: str) -> str:
    """Return the lower-case name after a slash, if there is one: "生气/angry" -> "angry"."""
    return name.rsplit("/", 1)[-1].strip().lower()


def _canonical(name: str) -> str | None:
    return _CANONICAL.get(_plain(name))


def _none(name: str) -> bool:
    return _plain(name) in _NO_EMOTION
