"""The log: levels, formats, one line a record whatever is in it, and children that join it."""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from abhinaya.stream import log
from abhinaya.stream.errors import SinkError
from abhinaya.stream.run.directory import KEPT, keep_logs


def flags(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    log.add_log_flags(parser)
    return parser.parse_args(arguments)


def test_without_flags_nothing_is_logged(capfd: pytest.CaptureFixture[str]) -> None:
    environment: dict[str, str] = {}
    assert log.open_log(flags(), "main", environment) is None
    assert log.descriptor_of(environment) is None
    log.ROOT.propagate = False  # pytest listens at the root
    logging.getLogger("abhinaya.run").error("a process died")
    assert capfd.readouterr().err == ""


def test_each_record_is_one_line_whatever_is_in_it(tmp_path: Path) -> None:
    file, environment = tmp_path / "run.log", dict[str, str]()
    log.open_log(flags("--log-level", "info", "--log-file", str(file)), "main", environment)
    logger = logging.getLogger("abhinaya.test")
    logger.debug("not written")
    logger.info("opened %s", "a\x1b[31m\nname\u202e")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logger.exception("failed")
    lines = file.read_text("utf-8").splitlines()
    assert len(lines) == 2
    assert lines[0].endswith(r"info    main: opened a\x1b[31m\nname\u202e")
    assert "ValueError" in lines[1]
    assert "\x1b" not in file.read_text("utf-8")


def test_json_has_the_same_in_fields(tmp_path: Path) -> None:
    file, environment = tmp_path / "run.log", dict[str, str]()
    log.open_log(flags("--log-format", "json", "--log-file", str(file)), "main", environment)
    logging.getLogger("abhinaya.test").warning("lost %d", 3)
    values = json.loads(file.read_text("utf-8"))
    assert values.pop("time").endswith("Z")
    assert values == {
        "level": "warning", "process": "main", "logger": "abhinaya.test", "message": "lost 3",
    }  # fmt: skip


def test_a_child_joins_the_log_of_its_parent(tmp_path: Path) -> None:
    file, environment = tmp_path / "run.log", dict(os.environ)
    descriptor = log.open_log(
        flags("--log-level", "debug", "--log-file", str(file)), "main", environment
    )
    assert descriptor is not None
    code = (
        "import logging; from abhinaya.stream.log import join_log; join_log('hub');"
        "logging.getLogger('abhinaya.hub').debug('up')"
    )
    subprocess.run([sys.executable, "-c", code], env=environment, pass_fds=[descriptor], check=True)
    assert file.read_text("utf-8").endswith("debug   hub: up\n")


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"--log-file .*no/such.*: cannot be opened"):
        log.open_log(flags("--log-file", str(tmp_path / "no" / "such")), "main", {})


def test_the_logs_of_a_run_that_failed_are_kept(tmp_path: Path) -> None:
    (tmp_path / "hub.log").write_text("Traceback: it broke\n", "utf-8")
    (tmp_path / "front-0.log").touch()
    kept = keep_logs(tmp_path)
    assert kept is not None
    assert {path.name for path in kept.iterdir()} == {"hub.log", KEPT}
    (tmp_path / "hub.log").unlink()
    assert keep_logs(tmp_path) is None


def test_similar_messages_are_logged_ten_a_minute_and_each_subject_once() -> None:
    throttle = log.Throttle()
    notes = [throttle.note(0.0, f"10.0.0.{n % 20}") for n in range(1000)]
    assert notes == [""] * 10 + [None] * 990
    assert throttle.note(59.0, "10.0.0.1") is None
    assert throttle.note(60.0, "10.0.0.1") == " (991 similar messages before it were dropped)"
    assert throttle.note(61.0, "10.0.0.2") == ""


def test_a_full_disk_is_said_once_without_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    log.open_log(flags("--log-level", "info", "--log-file", "/dev/full"), "main", {})
    for number in range(9):
        logging.getLogger("abhinaya.test").info("record %d", number)
    assert capfd.readouterr().err == "abhinaya: the log lacks records: No space left on device\n"
