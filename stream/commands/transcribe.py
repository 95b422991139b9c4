"""`abhinaya transcribe`: transcripts of recordings, by the transcriber of a profile.

A recording is segmented as in the monitor, so that a text model is trained on transcripts like
those it will get. The output has one JSON object a line:

    {"type": "ready", "model": ..., "version": ..., "licence": ...}
    {"type": "transcript", "id": ..., "text": ..., "confidence": ..., "language": ...,
     "pieces": [{"start_s": ..., "end_s": ..., "text": ..., "confidence": ..., "reason": ...}]}
    {"type": "error", "id": ..., "subject": ..., "reason": ..., "remedy": ...}

A recording that cannot be read gives an `error` line; the others continue.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from abhinaya.models.asr.base import Hearing, Transcriber, Transcription
from abhinaya.models.command_line import Parser
from abhinaya.models.text import to_json
from abhinaya.stream.clock import to_samples, to_seconds
from abhinaya.stream.commands.stream import guarded
from abhinaya.stream.errors import ConfigError, SourceError
from abhinaya.stream.front.listener import Listener
from abhinaya.stream.front.numbering import to_int16
from abhinaya.stream.front.segmenter import FloatArray, Piece
from abhinaya.stream.front.vad import SileroVad, Vad
from abhinaya.stream.node.worker import samples_of, transcriber_of
from abhinaya.stream.settings.config import VadConfig
from abhinaya.stream.settings.environment import add_line_up, load_line_up
from abhinaya.stream.sources import InputConfig
from abhinaya.stream.sources.file import open_file
from abhinaya.stream.wire.messages import Payload

_LOG: Final = logging.getLogger("abhinaya.transcribe")


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A recording, or an interval of one."""

    id: str
    path: str
    start_s: float = 0.0
    end_s: float | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of speech and its transcription."""

    piece: Piece
    transcription: Transcription


def main(arguments: Sequence[str]) -> int:
    """Transcribe; return 0, or the exit code of the last recording that could not be read."""
    parser = Parser("abhinaya transcribe", "Write transcripts, one JSON object a line.")
    parser.add_argument("inputs", nargs="*", metavar="FILE", help="recordings of any format")
    parser.add_argument(
        "--requests",
        type=Path,
        metavar="FILE",
        help="more recordings, a JSON object a line: id, path, start_s, end_s",
    )
    add_line_up(parser)
    args = parser.parse_args(arguments)
    requests = [Request(path, path) for path in args.inputs]
    if args.requests:
        requests += read_requests(args.requests)
    if not requests:
        raise ConfigError("abhinaya transcribe", "needs a recording", "name a file")
    run = load_line_up(args)
    if run.asr is None:
        raise ConfigError(f"profile {run.profile!r}", "has no transcriber", "add [asr]")
    transcriber = transcriber_of(run.asr)
    _write(
        type="ready",
        model=transcriber.model,
        version=transcriber.version,
        licence=transcriber.licence,
    )
    vad, code = SileroVad(), 0
    for request in requests:
        try:
            texts = list(transcribe(request, transcriber, run.vad, vad, run.asr.max_batch))
            _write(type="transcript", id=request.id, **summary(texts))
        except SourceError as error:
            code = error.exit_code
            _write(
                type="error",
                id=request.id,
                subject=error.subject,
                reason=error.reason,
                remedy=error.remedy,
            )
    return code


def read_requests(path: Path) -> list[Request]:
    """Read a list of recordings.

    Raises:
        ConfigError: the list cannot be read, or a line of it is not a request.

    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from error
    requests = []
    for number, line in enumerate(lines, 1):
        try:
            requests.append(msgspec.json.decode(line, type=Request))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{path}:{number}",
                f"is not a request: {error}",
                'write {"id": "1", "path": "a.wav"}',
            ) from error
    return requests


def transcribe(
    request: Request, transcriber: Transcriber, config: VadConfig, vad: Vad, max_batch: int
) -> Iterator[Text]:
    """Yield the pieces of speech of a recording, in order, with their transcriptions.

    Raises:
        SourceError: the recording cannot be read, or breaks off.

    """
    waiting: list[Piece] = []
    for piece in _pieces(request, config, vad):
        waiting.append(piece)
        if len(waiting) == max_batch:
            yield from _texts(waiting, transcriber)
            waiting = []
    if waiting:
        yield from _texts(waiting, transcriber)


def summary(texts: Sequence[Text]) -> dict[str, Any]:
    """Return the transcript of a whole recording and of its pieces, as fields of a JSON object."""
    spoken = [text.transcription for text in texts if text.transcription.text]
    weighed = [(len(t.text.split()), t.confidence) for t in spoken if t.confidence is not None]
    words = sum(count for count, _ in weighed)
    return {
        "text": " ".join(t.text for t in spoken),
        "confidence": math.fsum(n * c for n, c in weighed) / words if words else None,
        "language": spoken[0].language if spoken else "",
        "pieces": [
            {
                "start_s": round(to_seconds(text.piece.start), 3),
                "end_s": round(to_seconds(text.piece.end), 3),
                "text": text.transcription.text,
                "confidence": text.transcription.confidence,
                "reason": text.transcription.reason,
            }
            for text in texts
        ],
    }


def _texts(pieces: Sequence[Piece], transcriber: Transcriber) -> Iterator[Text]:
    results = transcriber.transcribe([Hearing(as_received(p.samples)) for p in pieces])
    return (Text(piece, text) for piece, text in zip(pieces, results, strict=True))


def as_received(samples: FloatArray) -> FloatArray:
    """Return samples [n] as a node of the monitor receives them: rounded to 16 bits."""
    return samples_of(Payload.of(to_int16(samples)))


def _pieces(request: Request, config: VadConfig, vad: Vad) -> Iterator[Piece]:
    """Yield the pieces of speech of a request; positions count from its `start_s`."""
    first = to_samples(request.start_s)
    last = sys.maxsize if request.end_s is None else to_samples(request.end_s)
    listener, position = Listener(config, 1, vad), 0
    source = open_file(InputConfig(request.path), _LOG.warning)
    try:
        for chunk in source.chunks():
            lost = _within(position, position + chunk.lost_samples, first, last)
            position += chunk.lost_samples
            if lost:
                yield from (piece for _, piece in listener.skip(lost))
            begin, end = max(0, first - position), max(0, last - position)
            position += len(chunk.samples)
            yield from (piece for _, piece in listener.feed(chunk.samples[begin:end]))
            if position >= last:
                break
    finally:
        source.close()
    if position <= first:
        raise SourceError(
            request.path,
            f"is over after {to_seconds(position):.1f} s, before the requested interval begins",
            "check start_s",
        )
    yield from (piece for _, piece in listener.finish())


def _within(start: int, end: int, first: int, last: int) -> int:
    return max(0, min(end, last) - max(start, first))


def _write(**values: Any) -> None:
    sys.stdout.buffer.write(to_json(values) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(guarded("abhinaya transcribe", lambda: main(sys.argv[1:])))
