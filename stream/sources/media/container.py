"""Open a container with PyAV; its errors become ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources.media.length import STREAMED, Contents, packed, structure

NO_PROTOCOLS: Final = {"protocol_whitelist": "none"}
"""FFmpeg options: an input that is really a playlist cannot make FFmpeg open other files."""
DAMAGED: Final = "convert it, for example with ffmpeg, or fetch it again"


def reason_of(error: BaseException) -> str:
    """Return the message of an error of FFmpeg or the system."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


ESTIMATED: Final = {"aac", "ac3", "eac3", "amr", "dts", "mp3", "mpeg", "mpegts", "ogg"}
"""Formats without a declared duration; FFmpeg estimates it from size and bit rate."""
PIPED: Final = {"wav", "w64", "au", "caf", "aiff"}
"""Formats that declare an impossible length if their writer could not seek."""
_DURATION: Final = re.compile(r"(\d+):(\d\d):(\d\d\.\d+)")
"""Matroska's tag of the end of one track."""
_PADDING_S: Final = 0.2
"""An mp3 encoder adds less than this, which FFmpeg subtracts."""


def open_container(
    target: Any, subject: str, how: Mapping[str, Any], contents: Contents | None
) -> Any:
    """Return an open container.

    Raises:
        SourceError: it cannot be opened.

    """
    import av

    try:
        return av.open(
            target,
            mode="r",
            metadata_errors="replace",  # a title that is not UTF-8 is harmless
            **how,
        )
    except av.error.ExitError as error:  # FFmpeg's time-out, set in `how`
        reason = "sent nothing that can be decoded for too long"
        raise SourceError(subject, reason, "is it on the air?") from error
    except av.error.PermissionError as error:
        raise SourceError(subject, "may not be read", "change its permissions") from error
    except (av.error.InvalidDataError, av.error.EOFError) as error:
        reason, remedy = "cannot be decoded as audio, or is cut off or damaged", DAMAGED
        if contents is not None:
            found = structure(contents.peek, contents.size())
            if kind := packed(contents.peek(0, 16)):
                reason, remedy = f"is compressed with {kind}", "unpack it first"
            elif found.missing and found.lacks:
                reason = f"is cut off: {found.lacks} is missing"
        raise SourceError(subject, reason, remedy) from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise SourceError(subject, f"cannot be opened: {reason_of(error)}", DAMAGED) from error


def declared_s(container: Any, track: Any, tag_s: float) -> tuple[float, bool]:
    """Return the seconds that a container declares, and whether of the audio track alone.

    0 if FFmpeg only estimates them. `tag_s` are those of a length tag among the frames, or 0.
    """
    formats = set(container.format.name.split(","))
    own_s = float((track.duration or 0) * track.time_base)
    if tag_s:
        return own_s if abs(own_s - tag_s) < _PADDING_S else tag_s, True
    if formats & (ESTIMATED - {"ogg"}):  # of an ogg file that is not chained, the end is known
        return 0.0, True
    if track.duration is not None:
        rate = (track.codec_context.bit_rate or 0) / 8
        if formats & PIPED and own_s * rate >= STREAMED:
            return 0.0, True
        return own_s, "asf" not in formats  # its tracks have the length of the file
    if tag := _DURATION.fullmatch(track.metadata.get("DURATION", "")):
        return 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3]), True
    return max(0.0, (container.duration or 0) / 1e6), len(container.streams) == 1
