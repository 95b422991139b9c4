"""The audit log: a chain that shows each change, survives a kill, and refuses to be silent."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abhinaya.stream.errors import SinkError
from abhinaya.stream.serve import audit as module
from abhinaya.stream.serve.audit import Audit, verify

DAY_S = 86_400.0
START = datetime(2026, 1, 10, tzinfo=UTC).timestamp()


class Clock:
    """A clock that is moved by hand."""

    now = START

    def __call__(self) -> float:
        return self.now


def filled(folder: Path, entries: int = 5) -> Path:
    audit = Audit(folder)
    for number in range(entries):
        audit.write("desk", "GET", f"/v1/streams/{number}")
    audit.close()
    return folder / "audit.log"


@given(st.data())
def test_no_byte_changes_and_no_line_moves_without_being_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("audit")
    path = filled(folder)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    how = data.draw(st.sampled_from(("change", "remove", "swap", "insert")))
    at = data.draw(st.integers(0, len(lines) - 2))
    if how == "change":  # of the last line only its own content is not secured yet
        place = data.draw(st.integers(0, sum(map(len, lines[:-1])) - 1))
        other = data.draw(st.sampled_from([c for c in b"0az\n" if c != whole[place]]))
        changed = whole[:place] + bytes([other]) + whole[place + 1 :]
    elif how == "remove":
        changed = b"".join(lines[:at] + lines[at + 1 :])
    elif how == "swap":
        changed = b"".join([*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]])
    else:
        changed = b"".join([*lines[: at + 1], b"{}#torn\n", *lines[at + 1 :]])
    path.write_bytes(changed)
    with pytest.raises(SinkError):
        verify(folder)
    path.write_bytes(whole)
    assert (verify(folder).number, verify(folder).torn) == (5, 0)


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_line_that_was_cut_off_stays_and_is_said(tmp_path: Path, cut: int) -> None:
    path = filled(tmp_path, 3)
    whole = path.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    path.write_bytes(whole[: -cut if cut < 11 else 1 - last])
    said: list[str] = []
    audit = Audit(tmp_path, report=said.append)
    assert "cut off" in said[0]
    audit.write("desk", "GET", "/")
    audit.close()
    chain = verify(tmp_path)
    assert (chain.number, chain.torn) == (3, 1)
    path.write_bytes(path.read_bytes().replace(b"#torn\n", b"x#torn\n"))
    with pytest.raises(SinkError, match="cut off"):
        verify(tmp_path)


def test_killed_at_any_moment_it_has_every_entry_that_was_acknowledged(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from abhinaya.stream.serve.audit import Audit\n"
        f"audit = Audit(Path({str(tmp_path)!r}))\n"
        "for n in range(10**6):\n"
        "    audit.write('desk', 'GET', str(n)); print(n, flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for _ in range(200):
        child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    rest = child.stdout.read().split()
    child.wait()
    Audit(tmp_path).close()
    acknowledged = int(rest[-1]) if rest else 199
    assert verify(tmp_path).number >= acknowledged + 1


@pytest.mark.parametrize("strict", [True, False])
def test_a_full_disk_refuses_access_and_room_makes_it_good(
    tmp_path: Path, strict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    audit = Audit(tmp_path, strict, said.append)
    audit.write("desk", "GET", "/1")
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        real(descriptor, data[:20])
        return 20

    monkeypatch.setattr(module.os, "write", full)
    for _ in range(3):
        if strict:
            with pytest.raises(SinkError, match="make room"):
                audit.write("desk", "GET", "/2")
        else:
            audit.write("desk", "GET", "/2")
    assert len(said) == (0 if strict else 1)
    assert "cannot be written" in audit.fault
    monkeypatch.setattr(module.os, "write", real)
    audit.write("desk", "GET", "/3")
    audit.close()
    chain = verify(tmp_path)
    assert (chain.number, chain.last and chain.last.subject) == (2, "/3")
    assert chain.torn >= 1

    def none(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    again = Audit(tmp_path, True)
    monkeypatch.setattr(module.os, "write", none)
    with pytest.raises(SinkError, match="No space left"):
        again.write("desk", "GET", "/4")
    again.close()


def test_months_have_their_files_one_chain_and_an_end(tmp_path: Path) -> None:
    clock = Clock()
    audit = Audit(tmp_path, clock=clock)
    for month in range(4):
        clock.now = START + 31 * DAY_S * month
        audit.write("desk", "GET", str(month))
        for path in tmp_path.glob("audit-*.log"):
            os.utime(path, (START, START))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["audit-2026-01.log", "audit-2026-02.log", "audit-2026-03.log", "audit.log"]
    assert verify(tmp_path).number == 4
    os.utime(tmp_path / "audit-2026-03.log", (clock.now, clock.now))
    audit.expire(30, clock.now)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["audit-2026-03.log", "audit.log"]
    assert verify(tmp_path).number == 6, "what was removed is said"
    audit.close()
    again = Audit(tmp_path, clock=clock)
    again.write("desk", "GET", "after")
    again.close()
    assert verify(tmp_path).number == 7
    (tmp_path / "audit-2026-03.log").unlink()
    with pytest.raises(SinkError, match="up to entry 3, was removed"):
        verify(tmp_path)


def test_two_gateways_cannot_write_one_log_and_a_damaged_one_is_not_continued(
    tmp_path: Path,
) -> None:
    path = filled(tmp_path)
    first = Audit(tmp_path)
    with pytest.raises(SinkError, match="another process"):
        Audit(tmp_path)
    first.close()
    path.write_bytes(path.read_bytes().replace(b"desk", b"boss", 1))
    with pytest.raises(SinkError, match="line 2: was tampered with"):
        Audit(tmp_path)
