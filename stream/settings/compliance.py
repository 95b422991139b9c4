"""The compliance mode: whose channels are judged. Pure.

In mode `eu` (AI Act, Art. 5(1)(f): no emotion recognition at work) only channels with one of the
names in `judged` get labels. All others are transcribed or not heard. The front marks each stream,
and the hub does so again: a front with other settings cannot have more judged than the hub allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from msgspec.structs import replace

from abhinaya.models.fields import setting
from abhinaya.models.text import clean
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.wire.messages import StreamInfo

REFUSALS: Final = frozenset({"no", "false", "refused", "withdrawn"})
"""Values of `consent` with which nothing is judged."""

NOT_HEARD: Final = "not heard (compliance)"
"""Why a stream has no segments."""


@dataclass(frozen=True, slots=True)
class ComplianceConfig:
    """Whose voice is judged, and what is kept (docs/compliance.md)."""

    mode: Literal["", "eu"] = setting(
        "", doc="`eu`: judge only named channels, keep no audio, log each access; empty: off"
    )
    judged: tuple[str, ...] = setting(
        ("customer", "caller"), doc="names of the channels that are judged in this mode"
    )
    others: Literal["transcribe", "drop"] = setting(
        "transcribe", doc="what happens to the other channels: only transcribe them, or drop them"
    )
    notice: str = setting(
        "A machine estimates emotions from the voice in this recording.",
        doc="notice to the persons concerned; each stream carries it in this mode",
    )
    retention_days: int = setting(
        0,
        doc="days after which the gateway deletes its history, audit log and logs; 0: not set, "
        "with which it does not start in this mode",
        least=0,
        most=36_500,
    )


def lawful(config: ComplianceConfig, info: StreamInfo) -> StreamInfo:
    """Return a stream with the marks of this mode; never more than it had is judged."""
    if not config.mode:
        return info
    judged = info.judged and _channel(info).casefold() in _names(config) and not _is_refused(info)
    return replace(
        info,
        judged=judged,
        heard=info.heard and (judged or config.others == "transcribe"),
        notice=info.notice or config.notice,
    )


def remark(config: ComplianceConfig, infos: Sequence[StreamInfo]) -> str:
    """Return why nothing of an input is judged, and the remedy; empty if something is."""
    if not config.mode or any(info.judged for info in infos):
        return ""
    names = ", ".join(config.judged)
    if any(map(_is_refused, infos)):
        return f"nothing of it is judged: its consent is {clean(infos[0].consent)!r}"
    channels = [clean(channel) for info in infos if (channel := _channel(info))]
    if not channels:
        why = "it is one stream without the name of a channel"
        remedy = "add --channels split --channel-names agent,customer"
    else:
        why = f"none of its channels ({', '.join(channels)}) is among compliance.judged ({names})"
        remedy = "name the channels with --channel-names, or change the setting"
    return f"nothing of it is judged (compliance mode {config.mode}): {why}; {remedy}"


def check_retention(config: ComplianceConfig) -> None:
    """Refuse to keep a history for ever.

    Raises:
        ConfigError: in this mode the retention must be set.

    """
    if config.mode and not config.retention_days:
        raise ConfigError(
            f"--compliance {config.mode}",
            "needs the number of days that history and logs are kept",
            "add --set compliance.retention_days=30",
        )


def _channel(info: StreamInfo) -> str:
    """Return the name of the channel; empty if the stream is a whole input."""
    head = f"{info.input}/"
    return info.stream[len(head) :] if info.input and info.stream.startswith(head) else ""


def _names(config: ComplianceConfig) -> frozenset[str]:
    return frozenset(name.casefold() for name in config.judged if name)


def _is_refused(info: StreamInfo) -> bool:
    return info.consent.strip().casefold() in REFUSALS
