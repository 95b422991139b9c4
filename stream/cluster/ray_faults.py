"""What it means when `ray start` fails: its last words become an error with a remedy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from abhinaya.models.text import one_line
from abhinaya.stream.cluster.ray_settings import Here
from abhinaya.stream.errors import AbhinayaError, ConfigError, NetworkError, ProcessError

LONGEST: Final = 300
_NOISE: Final = re.compile(r"^\s*$|^\s|^\[|^Traceback|^For more|INFO |^\*\*\*")
_VERSIONS: Final = re.compile(r"Ray: (\S+)\s+Python: (\S+)")


def explain(here: Here, text: str, log: Path) -> AbhinayaError:
    """Return the error that `ray start` means by `text`, which is in the file `log`."""
    head = f"{here.head.address}:{here.ray.port}"
    if "InvalidAuthToken" in text or "AuthenticationError" in text:
        return ConfigError(
            f"Ray's token {here.token_file}",
            f"is not the token of the head {head}",
            f"copy the file from machine {here.head.label}",
        )
    if "Version mismatch" in text and len(found := _VERSIONS.findall(text)) >= 2:
        theirs, ours = found[0], found[1]
        return ConfigError(
            f"machine {here.machine.label}",
            f"has Ray {ours[0]} on Python {ours[1]}; the head has {theirs[0]} on {theirs[1]}",
            "install the same versions",
        )
    if "redis" in text.lower() and here.ray.redis:
        return NetworkError(f"Redis {here.ray.redis}", "does not work for Ray", f"see {log}")
    if "GCS" in text and not here.machine.head:
        return NetworkError(f"Ray's head {head}", "does not answer", f"see {log}")
    said = [line for line in text.splitlines() if not _NOISE.search(line)]
    reason = f"does not start: {one_line(said[-1])[:LONGEST]}" if said else "does not start"
    return ProcessError(f"Ray on machine {here.machine.label}", reason, f"see {log}")
