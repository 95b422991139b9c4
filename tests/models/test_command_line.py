"""Wrong usage of any command is one line that names what was probably meant."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from abhinaya import stream
from abhinaya.models.command_line import Parser
from abhinaya.models.errors import near_miss
from abhinaya.stream.commands import main as commands
from abhinaya.stream.commands import stream as cli


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--chanels=a", "list"],
            "abhinaya x: unknown option '--chanels'; did you mean '--channels'?",
        ),
        (["--zzz=3"], "abhinaya x: unknown option '--zzz'; see `abhinaya x --help`"),
        (["list", "--optn"], "abhinaya x list: unknown option '--optn'; did you mean '--option'?"),
        (["list", "more"], "abhinaya x: unexpected argument 'more'; see `abhinaya x --help`"),
        (["lst"], "abhinaya x: argument COMMAND: unknown 'lst'; did you mean 'list'?"),
        (["--channels", "q"], "abhinaya x: argument --channels: unknown 'q'; known: mix, split"),
        (["--n", "x"], "abhinaya x: argument --n: invalid int value: 'x'; see `abhinaya x --help`"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser("abhinaya x")
    parser.add_argument("--channels", choices=("mix", "split"))
    parser.add_argument("--n", type=int)
    parser.add_subparsers(metavar="COMMAND").add_parser("list").add_argument("--option")
    with pytest.raises(SystemExit) as left:
        parser.parse_args(arguments)
    assert left.value.code == 2
    assert capsys.readouterr().err == f"{said}\n"


@pytest.mark.parametrize(
    ("arguments", "inputs", "others"),
    [
        ("a --plain b", "a b", {"plain": True}),
        ("--n -3 a --set x=1 b --set y=2 -5", "a b -5", {"n": -3, "set": ["x=1", "y=2"]}),
        ("- --plain", "-", {"plain": True}),
        ("a --keep", "a", {"keep": "K"}),
        ("--keep x a", "a", {"keep": "x"}),
        ("--keep -- -a", "-a", {"keep": "K"}),
        ("-- -a --plain", "-a --plain", {}),
        ("a --plain -- b -- --n", "a b -- --n", {"plain": True}),
    ],
)
def test_options_and_inputs_in_any_order(
    arguments: str, inputs: str, others: dict[str, object]
) -> None:
    parser = Parser("abhinaya x")
    parser.add_argument("inputs", nargs="*")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--keep", nargs="?", const="K")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--n", type=int)
    found = vars(parser.parse_args(arguments.split()))
    unset = {"plain": False, "keep": None, "set": [], "n": None}
    assert found == unset | others | {"inputs": inputs.split()}


def test_also_after_a_subcommand() -> None:
    parser = Parser("abhinaya x")
    pull = parser.add_subparsers().add_parser("pull")
    pull.add_argument("names", nargs="+")
    pull.add_argument("--out")
    assert vars(parser.parse_args(["pull", "a", "--out", "x", "b"])) == {
        "names": ["a", "b"], "out": "x",
    }  # fmt: skip


def test_an_unknown_command_is_one_line_with_the_near_miss(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert commands.main(["doctr"]) == 2
    assert capsys.readouterr().err == "abhinaya: command 'doctr': unknown; did you mean 'doctor'?\n"
    assert near_miss("zz", ["b", "a"]) == "known: a, b", "or else what there is"


def test_the_version_is_said_in_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
    assert commands.main(["--version"]) == 0
    with pytest.raises(SystemExit) as left:
        cli.main(["--version"])
    assert left.value.code == 0
    said = f"abhinaya {project['version']}\nabhinaya-stream {project['version']}\n"
    assert capsys.readouterr().out == said
    assert stream.__version__ == project["version"]
