"""The size on a compact voter's card: against the library that knows ONNX, and for broken files."""

from __future__ import annotations

from importlib import resources

import numpy as np
import onnx
import pytest

from abhinaya.models.compact.onnx_size import onnx_size
from abhinaya.models.registry import load

NAMES = ("compact-speech", "compact-text", "compact-joint")
WEIGHTS = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.INT8,
)


@pytest.mark.parametrize("name", NAMES)
def test_cards_tell_what_the_library_counts(name) -> None:
    path = resources.files("abhinaya.models.compact.weights") / f"{name}.onnx"
    weights = [
        tensor
        for tensor in onnx.load_from_string(path.read_bytes()).graph.initializer
        if tensor.data_type in WEIGHTS
    ]
    arrays = [onnx.numpy_helper.to_array(tensor) for tensor in weights]
    card = load(name).card
    assert card.tensors == len(arrays) > 3
    assert card.parameters == sum(array.size for array in arrays) > 10_000
    assert card.memory_mb == pytest.approx(sum(array.nbytes for array in arrays) / 1e6)
    assert card.sample_rate_hz == (16_000 if "audio" in card.needs else None)
    assert card.longest_s is None


def network(*arrays: np.ndarray) -> bytes:
    weights = [onnx.numpy_helper.from_array(a, f"w{i}") for i, a in enumerate(arrays)]
    return onnx.helper.make_model(
        onnx.helper.make_graph([], "g", [], [], initializer=weights)
    ).SerializeToString()


def test_shapes_are_no_weights_and_scalars_and_quantised_ones_are() -> None:
    size = onnx_size(
        network(
            np.zeros((300, 7), np.float16),
            np.float32(1.0)[()],
            np.zeros((10, 3), np.int8),
            np.zeros(5, np.int64),
        )
    )
    assert (size.tensors, size.parameters) == (3, 2131)
    assert size.memory_mb == pytest.approx((2 * 2100 + 4 + 30) / 1e6)


@pytest.mark.parametrize("content", [b"\xff\xff", b"\x3a\x7f\x00", b"\x3b\x00"])
def test_what_is_no_protobuf(content) -> None:
    with pytest.raises(ValueError, match="no protobuf"):
        onnx_size(content)
