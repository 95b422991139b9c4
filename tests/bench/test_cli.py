"""The bench command finds its parts, and what it writes names the machine."""

from __future__ import annotations

import importlib
import json

import pytest

from abhinaya.bench import cli
from abhinaya.bench.report import Report, ms, parser, publish, table, table_of
from abhinaya.stream.errors import ConfigError, SinkError


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_bench_that_is_listed_exists_and_takes_json(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.command(name)(["--help"])
    assert stopped.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_an_unknown_bench_is_refused_with_the_near_miss():
    with pytest.raises(ConfigError, match="did you mean 'latency'"):
        cli.main(["latncy"])


def test_the_rest_of_the_line_goes_to_the_bench(monkeypatch):
    seen = []
    module = importlib.import_module("abhinaya.bench.soak")
    monkeypatch.setattr(module, "main", lambda argv: seen.append(list(argv)) or 1)
    assert cli.main(["soak", "--minutes", "2"]) == 1
    assert seen == [["--minutes", "2"]]


def test_a_report_is_printed_and_written_with_the_machine(tmp_path, capsys):
    path = parser("x", "d").parse_args(["--json", str(tmp_path / "x.json")]).json
    publish(Report("x", {"n": 2}, {"p50": 1.5}), [table("T", ("a", "b"), [("one", "2")])], path)
    written = json.loads(path.read_text())
    assert written["figures"] == {"p50": 1.5}
    assert written["settings"] == {"n": 2}
    assert written["machine"]["cores"] >= 1
    printed = capsys.readouterr().out
    assert "one" in printed
    assert f"{written['machine']['cores']} cores" in printed


def test_a_report_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(SinkError, match="cannot be written"):
        publish(Report("x", {}, {}), [], tmp_path / "no" / "x.json")


def test_a_table_of_objects_is_made_by_formats_and_functions():
    columns = {"n": "{0.real}", "twice": lambda n: f"{2 * n}"}
    made = table_of("T", columns, [3, 4])
    assert [[*column.cells] for column in made.columns] == [["3", "4"], ["6", "8"]]


def test_milliseconds_have_no_meaningless_digits():
    assert [ms(1.234), ms(12.34), ms(1234.5)] == ["1.23", "12", "1234"]
