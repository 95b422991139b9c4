"""Open a container with PyAV; its errors become ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from abhinaya.stream.errors import SourceError
from abhinaya.stream.sources.media.length import Contents, packed, structure

NO_PROTOCOLS: Final = {"protocol_whitelist": "none"}
"""FFmpeg options: an input that is really a playlist cannot make FFmpeg open other files."""
DAMAGED: Final = "convert it, for example with ffmpeg, or fetch it again"


def reason_of(error: BaseException) -> str:
    """Return the message of an error of FFmpeg or the system."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


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
