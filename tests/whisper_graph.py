"""Makes the ONNX graph of Whisper's encoder without weights: `models/tiny/weights/*.onnx`.

Weights have the names of CTranslate2's file, so that they are loaded by name. Linear layers are
stored transposed, as MatMul needs them. Whisper: Radford et al., 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper, numpy_helper

OPSET: Final = 20
IR_VERSION: Final = 9
"""Readable by onnxruntime 1.16 and later."""


@dataclass(frozen=True)
class Size:
    """Size of an encoder; the defaults are those of tiny and tiny.en."""

    width: int = 384
    heads: int = 6
    mels: int = 80
    positions: int = 1500


@dataclass
class _Graph:
    size: Size
    nodes: list[Any] = field(default_factory=list)
    tensors: list[Any] = field(default_factory=list)

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def weight(self, name: str, *shape: int) -> str:
        """Declare a tensor without data; the data is added when the graph is loaded."""
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "model.bin"), ("length", str(4 * int(np.prod(shape))))):
            tensor.external_data.add(key=key, value=value)
        self.tensors.append(tensor)
        return name

    def constant(self, name: str, value: Any) -> str:
        self.tensors.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def linear(self, x: str, name: str, given: int, made: int) -> str:
        product = self.node("MatMul", [x, self.weight(f"{name}/weight", given, made)], f"{name}.wx")
        return self.node("Add", [product, self.weight(f"{name}/bias", made)], f"{name}.out")

    def norm(self, x: str, name: str, output: str) -> str:
        scale = self.weight(f"{name}/gamma", self.size.width)
        shift = self.weight(f"{name}/beta", self.size.width)
        inputs = [x, scale, shift]
        return self.node("LayerNormalization", inputs, output, axis=-1, epsilon=1e-5)

    def convolution(self, x: str, name: str, given: int, stride: int) -> str:
        kernel = self.weight(f"{name}/weight", self.size.width, given, 3)
        inputs = [x, kernel, self.weight(f"{name}/bias", self.size.width)]
        sizes = {"kernel_shape": [3], "pads": [1, 1], "strides": [stride]}
        return self.node("Gelu", [self.node("Conv", inputs, f"{name}.out", **sizes)], f"{name}.on")

    def stem(self) -> str:
        first = self.convolution("mel", "conv1", self.size.mels, 1)
        second = self.convolution(first, "conv2", self.size.width, 2)
        frames = self.node("Transpose", [second], "frames", perm=[0, 2, 1])
        table = self.weight("position_encodings/encodings", self.size.positions, self.size.width)
        start, axis = self.constant("start", [0]), self.constant("axis", [0])
        count = self.node("Shape", [frames], "count", start=1, end=2)
        places = self.node("Slice", [table, start, count, axis], "places")
        return self.node("Add", [frames, places], "level0")

    def attention(self, x: str, name: str) -> str:
        width, heads = self.size.width, self.size.heads
        stacked = self.linear(x, f"{name}/linear_0", width, 3 * width)
        shape = self.constant(f"{name}.shape", [0, 0, 3, heads, width // heads])
        apart = self.node("Reshape", [stacked, shape], f"{name}.apart")
        turned = self.node("Transpose", [apart], f"{name}.turned", perm=[2, 0, 3, 1, 4])
        q, k, v = (
            self.node("Gather", [turned, self.constant(f"{name}.{i}", i)], f"{name}.{part}", axis=0)
            for i, part in enumerate("qkv")
        )
        unit = self.constant(f"{name}.unit", np.float32((width // heads) ** -0.5))
        scaled = self.node("Mul", [q, unit], f"{name}.scaled")
        across = self.node("Transpose", [k], f"{name}.across", perm=[0, 1, 3, 2])
        scores = self.node("MatMul", [scaled, across], f"{name}.scores")
        shares = self.node("Softmax", [scores], f"{name}.shares", axis=-1)
        mixed = self.node("MatMul", [shares, v], f"{name}.mixed")
        back = self.node("Transpose", [mixed], f"{name}.back", perm=[0, 2, 1, 3])
        flat = self.constant(f"{name}.flat", [0, 0, width])
        return self.linear(
            self.node("Reshape", [back, flat], f"{name}.joined"), f"{name}/linear_1", width, width
        )

    def layer(self, x: str, number: int) -> str:
        name, width = f"layer_{number}", self.size.width
        seen = self.norm(x, f"{name}/self_attention/layer_norm", f"{name}.seen")
        attended = self.attention(seen, f"{name}/self_attention")
        middle = self.node("Add", [x, attended], f"{name}.middle")
        calm = self.norm(middle, f"{name}/ffn/layer_norm", f"{name}.calm")
        wide = self.linear(calm, f"{name}/ffn/linear_0", width, 4 * width)
        on = self.node("Gelu", [wide], f"{name}.on")
        narrow = self.linear(on, f"{name}/ffn/linear_1", 4 * width, width)
        return self.node("Add", [middle, narrow], f"level{number + 1}")


def encoder_graph(levels: Sequence[int], size: Size | None = None) -> bytes:
    """Return an ONNX graph of the lower layers: mel [B, mels, 2 T] -> level [B, T, width] each.

    `levels` are layer numbers from 1; higher layers are left out. The weights are external: add
    them by name at load time (`onnxruntime.SessionOptions.add_external_initializers`).
    """
    size = size or Size()
    graph = _Graph(size)
    x = graph.stem()
    for number in range(max(levels)):
        x = graph.layer(x, number)
    mel = helper.make_tensor_value_info("mel", TensorProto.FLOAT, ["B", size.mels, "N"])
    outputs = [
        helper.make_tensor_value_info(f"level{level}", TensorProto.FLOAT, ["B", "T", size.width])
        for level in levels
    ]
    made = helper.make_graph(graph.nodes, "whisper_encoder", [mel], outputs, graph.tensors)
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    return bytes(model.SerializeToString())
