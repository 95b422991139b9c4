"""What the command line says of inputs becomes streams whose names differ."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from abhinaya.models.text import clean, pack, unpack
from abhinaya.stream.commands.checks import fault_of
from abhinaya.stream.commands.inputs import read_inputs
from abhinaya.stream.commands.stream import _parser
from abhinaya.stream.front.assignment import AssignedInput


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (("a/call.wav", "b/call.wav"), ["call", "call-2"]),
        (("a/call.wav", "a/call.wav", "b/call.wav"), ["call", "call-2", "call-3"]),
        (("a/call.wav", "b/call.wav", "a/call-2.wav"), ["call", "call-3", "call-2"]),
        (("a/call.wav", "a/call-2.wav", "b/call.wav"), ["call", "call-2", "call-3"]),
    ],
)
def test_two_inputs_of_one_name_become_two_streams(
    files: tuple[str, ...], names: list[str], tmp_path: Path
) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    found = read_inputs(_parser().parse_args([str(tmp_path / file) for file in files]))
    assert [each.name for each in found] == names


def test_names_that_look_alike_become_two_streams(tmp_path: Path) -> None:
    """One has a byte that is not UTF-8, one the escape that is shown for it, one a hidden mark."""
    names = [b"bad\xff.wav", b"bad\\xff.wav", "bad\u200b\\xff.wav".encode(), b"a\x1b.wav"]
    files = [os.fsdecode(os.fsencode(tmp_path) + b"/" + name) for name in names]
    for file in files:
        Path(file).touch()
    found = read_inputs(_parser().parse_args(files))
    assert [each.config.what for each in found] == files, "to open them"
    shown = [clean(each.name) for each in found]
    assert shown == [r"bad\xff", r"bad\xff-2", r"bad\xff-3", r"a\x1b"]
    for each in found:
        each.name.encode()
        # what is handed to a front keeps the bytes of the path
        assignment = AssignedInput(name=each.name, config=each.config)
        assert unpack(pack(assignment), AssignedInput) == assignment


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("x" * 300, "cannot be read: File name too long"),
        ("nowhere/\udcff.wav", r"nowhere/\\xff.wav: no such file"),
        ("http://host/\udcff.mp3", "is not UTF-8"),
    ],
)
def test_an_input_that_cannot_be_is_refused_by_its_name(what: str, words: str) -> None:
    (item,) = read_inputs(_parser().parse_args([what]))
    assert re.search(words, clean(str(fault_of(item))))


def test_names_that_are_given_twice_are_made_to_differ(tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("a.wav", "b.wav")]
    for file in files:
        Path(file).touch()
    arguments = [*files, "--name", "desk", "--name", "desk"]
    assert [each.name for each in read_inputs(_parser().parse_args(arguments))] == [
        "desk",
        "desk-2",
    ]
