"""Our events in the form of Deepgram's answers; the whole event is in the field `abhinaya`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from abhinaya.models.command_line import version

Answer = dict[str, Any]

_MODEL: Final = {"name": "abhinaya", "version": version(), "arch": "vote"}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a client wants besides final results."""

    interim: bool = False
    """Provisional verdicts too."""
    revisions: bool = False
    """Later revisions of a verdict too."""
    activity: bool = False
    """`SpeechStarted` too."""


@dataclass(frozen=True, slots=True)
class Results:
    """Makes answers for one client, whose channels are these streams."""

    request_id: str
    streams: Sequence[str]
    wishes: Wishes

    def answer(self, event: Mapping[str, Any], *, finalized: bool = False) -> Answer | None:
        """Return the answer for an event; None: it is not one for this client."""
        kind = event.get("type")
        if kind == "dropped":
            lost = f"{event['events']} results were dropped: read faster"
            return {"type": "Warning", "description": lost, "abhinaya": event}
        if event.get("stream") not in self.streams:
            return None
        channel = [self.streams.index(event["stream"]), len(self.streams)]
        if kind == "activity":
            if not (self.wishes.activity and event["speaking"]):
                return None
            return {"type": "SpeechStarted", "channel": channel, "timestamp": event["position_s"]}
        if kind == "gap" or (kind == "verdict" and self._is_wanted(event)):
            return self._results(event, channel, finalized)
        return None

    def _is_wanted(self, verdict: Mapping[str, Any]) -> bool:
        wishes = self.wishes
        return (verdict["final"] or wishes.interim) and (
            not verdict["revision"] or wishes.revisions
        )

    def _results(self, event: Mapping[str, Any], channel: list[int], finalized: bool) -> Answer:
        final = bool(event.get("final", True))
        heard = event.get("transcript") or {}
        words = [
            {
                "word": word["text"].strip(),
                "start": word["start_s"],
                "end": word["end_s"],
                "confidence": word["confidence"] or 0.0,
                "punctuated_word": word["text"].strip(),
            }
            for word in heard.get("words", ())
        ]
        best = {
            "transcript": heard.get("text", ""),
            "confidence": heard.get("confidence") or 0.0,
            "words": words,
        }
        return {
            "type": "Results",
            "channel_index": channel,
            "duration": round(event["end_s"] - event["start_s"], 3),
            "start": event["start_s"],
            "is_final": final,
            "speech_final": final,
            "channel": {"alternatives": [best]},
            "metadata": {
                "request_id": self.request_id,
                "model_info": _MODEL,
                "model_uuid": "abhinaya",
            },
            "from_finalize": final and finalized,
            "abhinaya": dict(event),
        }
