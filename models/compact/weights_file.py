"""Opening a compact voter's ONNX file, and refusing one that is not what it should be.

What the file says about itself (its network, labels and settings) is in its ONNX metadata under
the key `abhinaya`, as JSON; the card beside it (`<name>.json`) is for people.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime

from abhinaya.models.base import Card, FloatArray, Need
from abhinaya.models.compact.features import SAMPLE_RATE
from abhinaya.models.compact.manner import N_MANNER
from abhinaya.models.compact.measure import N_FEATURES
from abhinaya.models.compact.onnx_size import OnnxSize, onnx_size
from abhinaya.models.tiny.tokens import WordPieces
from abhinaya.models.errors import DamagedFileError, LabelsError, MissingFileError
from abhinaya.models.labels import LABELS

METADATA_KEY: Final = "abhinaya"
RETRAIN: Final = "Use the file the package carries, or train one with `abhinaya train {name}`"
WIDTHS: Final[Mapping[str, int]] = {"features": N_FEATURES, "manner": N_MANNER}
"""Numbers in the last dimension of what a network is fed."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A network ready to run, and what its file says about it."""

    path: Path
    session: onnxruntime.InferenceSession
    settings: Mapping[str, Any]
    """Its word pieces and the like: what the code must do as training did."""
    places: npt.NDArray[np.int64]
    """[C'] index in LABELS of each output of the network."""
    card: Card

    def probabilities(self, feeds: Mapping[str, npt.NDArray[Any]]) -> FloatArray:
        """Run the network: probabilities [B, C] in the order of LABELS, 0 for what it lacks.

        `feeds` may hold more than it takes, as when a tower that counts nothing was left out.
        """
        taken = {given.name: feeds[given.name] for given in self.session.get_inputs()}
        (logits,) = self.session.run(["logits"], taken)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        spread = np.zeros((len(logits), len(LABELS)), np.float32)
        spread[:, self.places] = powers / powers.sum(axis=1, keepdims=True)
        return spread

    def word_pieces(self) -> WordPieces:
        """Give the pieces that its text tower reads.

        Raises:
            DamagedFileError: its metadata do not say.

        """
        remedy = RETRAIN.format(name=self.card.model)
        try:
            return WordPieces(self.settings["vocabulary"])
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedFileError(
                self.path, f"made for another version: no word pieces ({error})", remedy
            ) from error


def load_weights(name: str, needs: frozenset[Need], weights: str | None) -> Weights:
    """Open the ONNX file at `weights`, or the one that the package carries for model `name`.

    Raises:
        MissingFileError: there is no such file.
        DamagedFileError: it is not an ONNX file, or not one of this model.
        LabelsError: it names labels that are not among the eight.

    """
    path = Path(weights) if weights is not None else _packaged(name)
    remedy = RETRAIN.format(name=name)
    if not path.is_file():
        raise MissingFileError(path, "no such weights file", remedy)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    content = path.read_bytes()
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class of their own
        raise DamagedFileError(path, f"not an ONNX file that can run: {error}", remedy) from error
    _hand_back_memory()
    said = _said(path, session, name, remedy)
    _check_widths(path, session, remedy)
    return Weights(
        path=path,
        session=session,
        settings=said["settings"],
        places=_places(path, said["labels"], remedy),
        card=_card(path, name, needs, said, onnx_size(content)),
    )


def _hand_back_memory() -> None:
    """Return to the system what loading took for a moment: 45 MiB for a text tower of 5 MB.

    Only glibc keeps it, and has a function to ask for it.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _packaged(name: str) -> Path:
    folder = resources.files("abhinaya.models.compact.weights")
    return Path(str(folder)) / f"{name}.onnx"


def _said(
    path: Path, session: onnxruntime.InferenceSession, name: str, remedy: str
) -> dict[str, Any]:
    raw = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if raw is None:
        raise DamagedFileError(path, f"an ONNX file, but not of {name}: no metadata", remedy)
    try:
        said = json.loads(raw)
        found, _ = said["model"], (said["labels"], said["settings"], said["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(path, f"its metadata cannot be read: {error!r}", remedy) from error
    if found != name:
        raise DamagedFileError(path, f"holds the model {found!r}, not {name!r}", remedy)
    return dict(said)


def _check_widths(path: Path, session: onnxruntime.InferenceSession, remedy: str) -> None:
    for given in session.get_inputs():
        width = WIDTHS.get(given.name, given.shape[-1])
        if given.shape[-1] != width:
            raise DamagedFileError(
                path,
                f"made for another version: takes {given.name} of {given.shape[-1]} numbers, and "
                f"this one gives {width}",
                remedy,
            )


def _places(path: Path, labels: Sequence[str], remedy: str) -> npt.NDArray[np.int64]:
    unknown = [label for label in labels if label not in LABELS]
    if unknown or len(set(labels)) != len(labels):
        raise LabelsError(
            path, f"has the labels {list(labels)}; they must be some of {', '.join(LABELS)}", remedy
        )
    return np.array([LABELS.index(label) for label in labels], np.int64)


def _card(
    path: Path, name: str, needs: frozenset[Need], said: Mapping[str, Any], size: OnnxSize
) -> Card:
    """Make the card out of the metadata and, where it lies beside, the card file."""
    beside = path.with_suffix(".json")
    told = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    return Card(
        model=name,
        version=said["version"],
        needs=needs,
        labels=tuple(label for label in LABELS if label in said["labels"]),
        licence=told.get("licence", "not stated"),
        noncommercial=bool(told.get("noncommercial", False)),
        notes=tuple(told.get("limits", ("no card beside the weights file",))),
        sample_rate_hz=SAMPLE_RATE if "audio" in needs else None,
        **asdict(size),
    )
