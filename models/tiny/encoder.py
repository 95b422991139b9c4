"""Runs the lower layers of Whisper's encoder on a segment: one pass for all voters.

The lower layers carry the tone of voice (arXiv 2602.06000). They cost a third of the whole encoder,
because the segment is not padded to 30 s as for the decoder (`models/asr/engine.py`). The graph
(`weights/whisper-tiny-encoder.onnx`, made by `tests/whisper_graph.py`) has no weights. They
come from the CTranslate2 `model.bin` that the transcriber uses.

Shapes: n samples, L levels, T frames of 20 ms, D = 384.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime
from faster_whisper.feature_extractor import FeatureExtractor

from abhinaya.models.base import FloatArray
from abhinaya.models.errors import DamagedFileError
from abhinaya.models.tiny import metadata
from abhinaya.models.tiny.ct2_file import REMEDY, read_tensors

GRAPH: Final = "whisper-tiny-encoder"
LEVELS: Final = (1, 2)
"""Layers whose outputs the voters read."""
LAYERS: Final = 4
WIDTH: Final = 384
FRAME_SAMPLES: Final = 320
"""Samples of a frame of the encoder, 20 ms."""
TAIL_SAMPLES: Final = 8_000
"""Length of the silence appended to each segment, as in training."""
REMEMBERED: Final = 8
"""Number of cached encodings: the segments of a batch, requested by every voter of a process."""


class Encoder:
    """Whisper's lower encoder layers. Thread-safe.

    Args:
        folder: CTranslate2 model of Whisper tiny or tiny.en.

    Raises:
        DamagedFileError: `model.bin` is not a Whisper model of size tiny.

    """

    def __init__(self, folder: Path) -> None:
        self._session = _session(folder / "model.bin")
        self._mel = FeatureExtractor()
        self._known: OrderedDict[bytes, FloatArray] = OrderedDict()
        self._lock = threading.Lock()

    def encode(self, samples: FloatArray) -> FloatArray:
        """Return the layer outputs [L, T, D] of 16 kHz samples [n] in [-1, 1], 29.5 s at most.

        NaN and infinite samples count as silence. Recent results come from a cache.
        """
        key = hashlib.blake2b(samples.tobytes(), digest_size=16).digest()
        with self._lock:
            if key not in self._known:
                self._known[key] = self._encode(samples)
                if len(self._known) > REMEMBERED:
                    self._known.popitem(last=False)
            return self._known[key]

    def _encode(self, samples: FloatArray) -> FloatArray:
        clean = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
        padded = np.pad(clean, (0, TAIL_SAMPLES + -len(clean) % FRAME_SAMPLES))
        mel: FloatArray = self._mel(padded.astype(np.float32), padding=0)[None]
        levels = self._session.run(None, {"mel": mel.astype(np.float32)})
        frames = -(-len(samples) // FRAME_SAMPLES)
        lower: FloatArray = np.concatenate(levels)[:, :frames]
        return lower


@cache
def shared(folder: Path) -> Encoder:
    """Return the encoder of a folder; all callers in this process share it."""
    return Encoder(folder)


def _session(path: Path) -> onnxruntime.InferenceSession:
    weights = _weights(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # each new length of segment would add to the arena and to the patterns: 16 MiB more, not faster
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = False
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
    graph = metadata.find(GRAPH, ".onnx").read_bytes()
    try:
        options.add_external_initializers(list(weights), values)
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base class
        raise DamagedFileError(
            path, f"not a Whisper model of size tiny: {error}", REMEDY
        ) from error


def _weights(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Return the encoder's weights with the names and shapes of the graph."""
    above = range(max(LEVELS), LAYERS)
    unused = ("layer_norm/", *(f"layer_{number}/" for number in above))
    tensors = read_tensors(path, "encoder/")
    return {
        name: np.ascontiguousarray(
            value.T if "/linear_" in name and value.ndim == 2 else value
        ).astype(np.float32)
        for name, value in tensors.items()
        if value.ndim > 0 and not name.startswith(unused)
    }
