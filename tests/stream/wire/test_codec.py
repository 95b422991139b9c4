"""Messages to frames and back; whatever does not fit is refused by name."""

from __future__ import annotations

import contextlib
import tracemalloc
from typing import Any

import fakes
import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from abhinaya.stream.errors import WireError
from abhinaya.stream.wire import messages
from abhinaya.stream.wire.codec import (
    MAX_FRAME_BYTES,
    MAX_HEADER_BYTES,
    Decoder,
    Encoder,
)
from abhinaya.stream.wire.messages import (
    FromSink,
    Message,
    Payload,
    Segment,
    Task,
    ToHub,
    ToNode,
)

ANYTHING: Any = None
for _kind in fakes.one_of_each():
    ANYTHING = type(_kind) if ANYTHING is None else ANYTHING | type(_kind)


def plain(value: Any) -> Any:
    """A message as values that compare: payloads by type, shape and bytes."""
    if isinstance(value, Payload):
        return value.dtype, value.shape, value.array().tobytes()
    if isinstance(value, msgspec.Struct):
        fields = {name: plain(getattr(value, name)) for name in value.__struct_fields__}
        return type(value).__name__, fields
    return tuple(plain(v) for v in value) if isinstance(value, tuple) else value


def through(message: Message, kinds: Any = ANYTHING) -> Message:
    frames = [memoryview(f).tobytes() for f in Encoder().encode(message)]
    decoded: Message = Decoder[Message](kinds).decode(frames)
    return decoded


def header(message: Message) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.msgpack.decode(Encoder().encode(message)[0])
    return fields


def refused(fields: dict[str, Any] | bytes, *payloads: bytes, kinds: Any = ToHub) -> str:
    first = fields if isinstance(fields, bytes) else msgspec.msgpack.encode(fields)
    with pytest.raises(WireError) as error:
        Decoder[Message](kinds).decode([first, *payloads])
    return error.value.reason


SEGMENT = header(fakes.segment(3))
SAMPLES = np.full(16, 3, np.int16).tobytes()


@pytest.mark.parametrize("message", fakes.one_of_each(), ids=lambda m: type(m).__name__)
def test_every_message_comes_out_as_it_went_in(message: Message) -> None:
    assert plain(through(message)) == plain(message)


arrays = nps.arrays(
    dtype=st.sampled_from(["<i2", "<f4"]),
    shape=nps.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=40),
)


@fakes.patient
@given(arrays, st.binary(max_size=1000))
def test_any_array_travels_behind_its_header_and_any_state_in_it(
    samples: npt.NDArray[Any], state: bytes
) -> None:
    task = fakes.task(0, samples=Payload.of(samples), states={"S1": state})
    result = through(task, ToNode)
    assert isinstance(result, Task)
    assert result.samples is not None
    got = result.samples.array()
    assert (got.dtype, got.shape) == (samples.dtype, samples.shape)
    assert got.tobytes() == samples.tobytes()
    assert result.states == {"S1": state}


def test_payloads_are_encoded_without_a_copy() -> None:
    array = np.arange(16, dtype=np.int16)
    frames = Encoder().encode(fakes.segment(0, samples=Payload.of(array)))
    assert np.shares_memory(np.frombuffer(frames[1], np.int16), array)


def test_a_decoder_goes_on_after_a_refusal() -> None:
    decoder = Decoder[Message](ToHub)
    with pytest.raises(WireError):
        decoder.decode([msgspec.msgpack.encode(SEGMENT)])
    assert isinstance(decoder.decode([msgspec.msgpack.encode(SEGMENT), SAMPLES]), Segment)


# --- what is refused, and by what name ------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"", b"\x81", b"\xc1", b"not msgpack at all"])
def test_a_header_that_is_no_msgpack_is_refused(raw: bytes) -> None:
    assert "malformed" in refused(raw)


def test_an_unknown_type_is_refused_by_its_name() -> None:
    assert "'Exec'" in refused({"type": "Exec", "code": "rm"})


def test_a_message_that_may_not_come_this_way_is_refused_by_its_name() -> None:
    assert "'Vote'" in refused(header(fakes.vote(0, "S1")), kinds=ToNode)
    assert "'Beat'" in refused(header(messages.Beat(name="x")), kinds=FromSink)


def test_an_unknown_field_is_refused_by_its_name() -> None:
    assert "`extra`" in refused(SEGMENT | {"extra": 1}, SAMPLES)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sequence", "3"),
        ("sequence", 3.5),
        ("stream", 7),
        ("stream", None),
        ("cut", "bored"),
        ("sent_unix_s", "noon"),
        ("start", 2**70 // 2**6 * 1.5),
    ],
)
def test_a_field_of_the_wrong_type_is_refused_by_its_name(field: str, value: Any) -> None:
    assert f"$.{field}" in refused(SEGMENT | {field: value}, SAMPLES)


def test_a_missing_field_is_refused_by_its_name() -> None:
    fields = {k: v for k, v in SEGMENT.items() if k != "cut"}
    assert "`cut`" in refused(fields, SAMPLES)


def test_a_header_over_its_limit_is_refused_unread() -> None:
    assert "header of" in refused(b"\x00" * (MAX_HEADER_BYTES + 1))
    texts = ["x" * 32_000] * (MAX_HEADER_BYTES // 32_100)
    task = {"type": "Task", "stream": "s", "sequence": 0, "services": ["T2"], "start": 0, "end": 1}
    header = msgspec.msgpack.encode(task | {"context": texts})
    assert len(header) > 0.9 * MAX_HEADER_BYTES
    assert isinstance(Decoder[Message](messages.ToNode).decode([header]), messages.Task)


def test_a_payload_over_its_limit_is_refused_and_one_at_the_limit_is_not() -> None:
    shape = [MAX_FRAME_BYTES // 2]
    fields = SEGMENT | {"samples": [1, "int16", shape]}
    decoded = Decoder[Message](ToHub).decode([msgspec.msgpack.encode(fields), bytes(2 * shape[0])])
    assert isinstance(decoded, Segment)
    shape[0] += 1
    assert "over the limit" in refused(fields, bytes(2 * shape[0]))


@pytest.mark.parametrize("index", [0, -1, 2, 3, 2**40])
def test_a_payload_that_names_a_frame_that_is_not_its_own_is_refused(index: int) -> None:
    assert f"names frame {index}" in refused(SEGMENT | {"samples": [index, "int16", [16]]}, SAMPLES)


@pytest.mark.parametrize("dtype", ["float64", "object", "O", "int8", ">i2", "", "M8[s]"])
def test_an_element_type_that_may_not_travel_is_refused(dtype: str) -> None:
    assert "not one of" in refused(SEGMENT | {"samples": [1, dtype, [16]]}, SAMPLES)


@pytest.mark.parametrize(
    "shape", [[-16], [2**31], [2**62, 4], [4, 4, 1], ["16"], [16.0], [None], [[16]]]
)
def test_an_impossible_shape_is_refused(shape: list[Any]) -> None:
    assert "impossible shape" in refused(SEGMENT | {"samples": [1, "int16", shape]}, SAMPLES)


@pytest.mark.parametrize("shape", [[15], [17], [0], [4, 5], [2**31 - 1], [2**31 - 1] * 2, []])
def test_a_shape_that_is_not_that_of_the_bytes_is_refused(shape: list[int]) -> None:
    assert "32 bytes" in refused(SEGMENT | {"samples": [1, "int16", shape]}, SAMPLES)


@pytest.mark.parametrize(
    "reference", [None, 1, "1", [], [1], [1, "int16"], [1, "int16", 16], ["1", "int16", [16]], {}]
)
def test_a_payload_that_is_no_reference_is_refused(reference: Any) -> None:
    assert refused(SEGMENT | {"samples": reference}, SAMPLES)


def test_nesting_without_end_is_refused() -> None:
    raw = msgspec.msgpack.encode(SEGMENT | {"samples": "MARK"})
    assert "malformed" in refused(raw.replace(b"\xa4MARK", b"\x91" * 100_000), SAMPLES)


def test_a_refusal_quotes_no_more_than_a_line_of_the_input() -> None:
    assert len(refused(SEGMENT | {"x" * 100_000: 1}, SAMPLES)) < 300


# --- noise ----------------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
values = st.recursive(
    scalars | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)
noise = st.lists(st.binary(max_size=64), max_size=6)
tags = st.sampled_from([type(m).__name__ for m in fakes.one_of_each()])


def decode_or_refuse(frames: list[bytes]) -> None:
    with contextlib.suppress(WireError):
        assert isinstance(Decoder[Message](ANYTHING).decode(frames), Message)


@settings(fakes.patient, max_examples=300)
@given(noise)
def test_random_bytes_raise_nothing_but_a_wire_error(frames: list[bytes]) -> None:
    decode_or_refuse(frames)


@settings(fakes.patient, max_examples=300)
@given(tags, st.dictionaries(st.sampled_from(sorted(SEGMENT)), values), noise)
def test_random_fields_raise_nothing_but_a_wire_error(
    tag: str, fields: dict[str, Any], payloads: list[bytes]
) -> None:
    decode_or_refuse([msgspec.msgpack.encode(fields | {"type": tag}), *payloads])


@settings(fakes.patient, max_examples=300)
@given(st.sampled_from(fakes.one_of_each()), st.data())
def test_a_message_damaged_on_the_way_raises_nothing_but_a_wire_error(
    message: Message, data: st.DataObject
) -> None:
    raw, *payloads = (memoryview(f).tobytes() for f in Encoder().encode(message))
    place = data.draw(st.integers(0, len(raw) - 1))
    damaged = raw[:place] + data.draw(st.binary(max_size=6)) + raw[place + 1 :]
    decode_or_refuse([damaged, *payloads])


@pytest.mark.parametrize(
    "size", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
)
@pytest.mark.parametrize("field", ["samples", "stream"])
def test_a_header_that_announces_gigabytes_allocates_next_to_nothing(
    size: bytes, field: str
) -> None:
    raw = msgspec.msgpack.encode(SEGMENT | {field: "MARK"}).replace(b"\xa4MARK", size)
    tracemalloc.start()
    try:
        assert "malformed" in refused(raw, SAMPLES)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
