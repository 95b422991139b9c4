"""What the command line says of inputs becomes streams whose names differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from abhinaya.stream.commands.inputs import read_inputs
from abhinaya.stream.commands.stream import _parser


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


def test_names_that_are_given_twice_are_made_to_differ(tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("a.wav", "b.wav")]
    for file in files:
        Path(file).touch()
    arguments = [*files, "--name", "desk", "--name", "desk"]
    assert [each.name for each in read_inputs(_parser().parse_args(arguments))] == [
        "desk",
        "desk-2",
    ]
