"""Fill in the transcripts of a manifest by the transcriber of the monitor, so that a run can break.

What is transcribed is a journal beside the new manifest, a line a clip; a run that is started again
goes on after its last whole line. The transcriber is the program `abhinaya transcribe`: training
data and a live stream are cut and heard alike, and this folder imports nothing of `stream`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from abhinaya.train.data.clips import Clip, DataError
from abhinaya.train.data.manifest import Manifest, write_manifest

SCHEMA: Final = "abhinaya.transcripts/1"
PROGRAM: Final = (sys.executable, "-m", "abhinaya.stream.commands.transcribe")
SOURCE: Final = "asr"

Progress = Callable[[int, int], None]
"""Told how many clips are done, of how many."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to."""

    transcribed: int
    kept: int
    """Clips that had a transcript, and clips without audio."""
    failed: Mapping[str, str]
    """Id of each clip that could not be read, and why."""


def transcribe_manifest(
    manifest: Manifest,
    out: Path,
    line_up: Sequence[str] = (),
    replace_gold: bool = False,
    max_failed: float = 0.0,
    progress: Progress = lambda done, of: None,
    program: Sequence[str] = PROGRAM,
) -> Outcome:
    """Write `manifest` to `out` with a transcript for every clip that has audio and none yet.

    Args:
        manifest: of the corpus.
        out: manifest to write; the journal lies beside it.
        line_up: flags that choose the transcriber (`--profile`, `--set`), passed on.
        replace_gold: also transcribe clips whose transcript people wrote.
        max_failed: share of clips that may be unreadable; they get an empty transcript.
        progress: told after each clip.
        program: the transcriber; it takes `--requests FILE`.

    Raises:
        DataError: the transcriber does not start or breaks off, too many clips cannot be read, or
            the journal is of other data. What was transcribed stays in the journal.

    """
    wanted = [clip for clip in manifest.clips if clip.path and (replace_gold or not _heard(clip))]
    path = out.with_name(out.name + ".journal")
    journal = _Journal(path, {"schema": SCHEMA, "line_up": list(line_up)})
    done = journal.read()
    left = [clip for clip in wanted if clip.id not in done]
    progress(len(wanted) - len(left), len(wanted))
    if left:
        with journal.writing() as write:
            for line in _transcribed(manifest, left, line_up, program):
                write(line)
                done[line["id"]] = line
                progress(len(done), len(wanted))
    failed = {c.id: str(done[c.id]["reason"]) for c in wanted if done[c.id]["type"] == "error"}
    if len(failed) > max_failed * len(wanted):
        first = next(iter(failed))
        raise DataError(
            f"{out}: {len(failed)} of {len(wanted)} clips cannot be transcribed, the first "
            f"{first}: {failed[first]}; mend them and remove {path}, or allow them with "
            "--max-missing"
        )
    clips = tuple(_filled(clip, done.get(clip.id)) for clip in manifest.clips)
    write_manifest(out, replace(manifest, clips=clips))
    path.unlink(missing_ok=True)
    return Outcome(len(wanted) - len(failed), len(manifest.clips) - len(wanted), failed)


def _heard(clip: Clip) -> bool:
    return bool(clip.transcript or clip.transcript_source)


def _filled(clip: Clip, line: Mapping[str, Any] | None) -> Clip:
    if line is None:
        return clip
    return replace(clip, transcript=str(line.get("text", "")), transcript_source=SOURCE)


class _Journal:
    """Lines of a run, the first of which says what it is a run of."""

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self._path = path
        self._header = header

    def read(self) -> dict[str, dict[str, Any]]:
        """Give the lines by clip; a last line that a kill cut short is dropped from the file."""
        if not self._path.exists():
            return {}
        whole = self._path.read_bytes()
        whole = whole[: whole.rfind(b"\n") + 1]
        os.truncate(self._path, len(whole))
        try:
            lines = [json.loads(line) for line in whole.splitlines()]
            by_id = {str(line["id"]): line for line in lines[1:]}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self._path}: is no journal ({error}); remove it") from error
        if lines and lines[0] != self._header:
            raise DataError(
                f"{self._path}: was begun with other settings ({lines[0].get('line_up')}); "
                "use the same, or remove it to begin again"
            )
        return by_id

    @contextmanager
    def writing(self) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """Give a function that adds a line, whole or not at all."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:

            def write(line: Mapping[str, Any]) -> None:
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
                file.flush()

            if not file.tell():
                write(self._header)
            yield write


def _transcribed(
    manifest: Manifest, clips: Sequence[Clip], line_up: Sequence[str], program: Sequence[str]
) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="abhinaya-") as folder:
        requests = Path(folder) / "requests.jsonl"
        with requests.open("w", encoding="utf-8") as file:
            for clip in clips:
                asked: dict[str, Any] = {"id": clip.id, "path": str(manifest.audio(clip))}
                if clip.start_s is not None:
                    asked["start_s"] = clip.start_s
                if clip.end_s is not None:
                    asked["end_s"] = clip.end_s
                file.write(json.dumps(asked, ensure_ascii=False) + "\n")
        command = [*program, "--requests", str(requests), *line_up]
        with (Path(folder) / "errors").open("w+b") as errors:
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)  # noqa: S603
            try:
                came = 0
                for line in _answers(child):
                    came += 1
                    yield line
            finally:
                child.kill()
                child.communicate()
            if came < len(clips):
                errors.seek(0)
                said = errors.read().decode("utf-8", "replace").strip()
                raise DataError(
                    f"the transcriber broke off after {came} of {len(clips)} clips: "
                    f"{said or f'exit code {child.returncode}'}; start again to go on from there"
                )


def _answers(child: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    assert child.stdout is not None
    for raw in child.stdout:
        if not raw.endswith(b"\n"):
            return  # the program was killed in the middle of a line
        line = json.loads(raw)
        if line["type"] != "ready":
            yield line
