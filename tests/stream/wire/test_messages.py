"""What every type of the wire contract promises."""

from __future__ import annotations

import math
from typing import Any, get_args

import fakes
import msgspec
import numpy as np
import pytest
from msgspec import inspect

from abhinaya.stream.errors import WireError
from abhinaya.stream.wire import messages
from abhinaya.stream.wire.codec import Decoder, Encoder
from abhinaya.stream.wire.messages import Message, Payload

STRUCTS = [
    value
    for value in vars(messages).values()
    if isinstance(value, type) and issubclass(value, msgspec.Struct) and value is not Message
]
KINDS = [kind for kind in STRUCTS if issubclass(kind, Message)]
UNIONS = ["FromSink", "ToFront", "ToNode", "ToSink", "ToHub", "Event"]


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.__name__)
def test_every_type_is_frozen_and_keyword_only_and_forbids_unknown_fields(kind: Any) -> None:
    config = kind.__struct_config__
    assert config.frozen
    assert config.forbid_unknown_fields
    with pytest.raises(TypeError, match=r"positional argument|Extra positional|takes"):
        kind("positional")


@pytest.mark.parametrize("message", fakes.one_of_each(), ids=lambda m: type(m).__name__)
def test_a_message_cannot_be_changed(message: Message) -> None:
    for name in message.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(message, name, None)


def test_the_tag_of_a_message_is_its_name() -> None:
    assert {kind.__struct_config__.tag for kind in KINDS} == {kind.__name__ for kind in KINDS}
    assert {kind.__struct_config__.tag_field for kind in KINDS} == {"type"}


def test_there_is_a_fake_of_every_message() -> None:
    assert {type(m) for m in fakes.one_of_each()} == set(KINDS)


def test_every_message_has_a_way_to_go() -> None:
    allowed = {kind for name in UNIONS for kind in get_args(getattr(messages, name))}
    assert allowed | {messages.Notice} == set(KINDS)


UNBOUNDED = {"Vote.probabilities"}
"""Checked by the hub with a reason that names the voter."""


def bounds(kind: Any) -> bool:
    """Whether a number, text or bytes of this type, or of its parts, has limits."""
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return kind.ge is not None and (kind.le is not None or kind.lt is not None)
    if isinstance(kind, inspect.StrType | inspect.BytesType):
        return kind.max_length is not None
    if isinstance(kind, inspect.UnionType):
        return all(map(bounds, kind.types))
    if isinstance(kind, inspect.VarTupleType):
        return bounds(kind.item_type)
    if isinstance(kind, inspect.NamedTupleType):
        return all(bounds(field.type) for field in kind.fields)
    if isinstance(kind, inspect.DictType):
        return bounds(kind.key_type) and bounds(kind.value_type)
    return isinstance(
        kind,
        inspect.StructType
        | inspect.LiteralType
        | inspect.NoneType
        | inspect.BoolType
        | inspect.CustomType,
    )


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.__name__)
def test_every_number_and_text_has_limits(kind: Any) -> None:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    loose = {f"{kind.__name__}.{f.name}" for f in info.fields if not bounds(f.type)}
    assert loose <= UNBOUNDED


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -1.0, 1e300])
def test_a_time_that_is_none_is_refused(number: float) -> None:
    segment = fakes.segment(0)
    for field in ("captured_unix_s", "capture_ms", "sent_unix_s"):
        bad = Encoder().encode(msgspec.structs.replace(segment, **{field: number}))
        with pytest.raises(WireError, match=field):
            Decoder[Message](messages.ToHub).decode(bad)


@pytest.mark.parametrize(
    "rated", [(math.nan, 2, 3), (1, 8, 3), (1, 2, -1), (math.inf, 2, 3), (1, 2), (1, 2, 3, 4), "x"]
)
def test_attributes_outside_1_to_7_are_refused(rated: Any) -> None:
    vote, verdict = fakes.vote(0, "S1"), fakes.verdict(0)
    notice = messages.Notice(number=1, hub="h", event=verdict)
    event = msgspec.structs.replace(verdict, attributes=rated)
    for message, kinds in (
        (msgspec.structs.replace(vote, attributes=rated), messages.ToHub),
        (msgspec.structs.replace(notice, event=event), messages.ToSink),
    ):
        with pytest.raises(WireError, match="attributes"):
            Decoder[Message](kinds).decode(Encoder().encode(message))


def test_a_name_of_100_kb_and_a_gap_from_before_the_beginning_are_refused() -> None:
    gap = messages.Gap(stream="call", sequence=0, start=0, end=1, reason="")
    for changes in ({"stream": "x" * 100_000}, {"start": -(2**63)}, {"stream": ""}):
        bad = Encoder().encode(msgspec.structs.replace(gap, **changes))
        with pytest.raises(WireError, match=next(iter(changes))):
            Decoder[Message](messages.ToHub).decode(bad)


def test_a_payload_shares_the_memory_of_its_array() -> None:
    array = np.arange(8, dtype=np.int16)
    view = Payload.of(array).array()
    assert np.shares_memory(view, array)
    assert not view.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1


def test_a_strided_array_becomes_a_payload_of_the_same_values() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    assert np.array_equal(Payload.of(array).array(), array)


@pytest.mark.parametrize("dtype", ["float64", "int32", "uint8", "object", "complex64", "bool"])
def test_a_payload_of_another_type_is_refused(dtype: str) -> None:
    with pytest.raises(TypeError, match=dtype):
        Payload.of(np.zeros(3, dtype))
