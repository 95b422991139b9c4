"""A pipecat processor: the user's audio goes to `abhinaya serve`, verdicts come back as frames.

    pip install 'abhinaya[examples]'
    abhinaya serve &

    client = Client("http://127.0.0.1:8377", token)
    pipeline = Pipeline([transport.input(), EmotionProcessor(client), stt, llm, tts, ...])

Audio passes unchanged and never waits. A `VerdictFrame` follows its speech by a second or so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pipecat.frames.frames import CancelFrame, DataFrame, EndFrame, Frame, InputAudioRawFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from abhinaya.client import Client, GatewayError, Listening


@dataclass
class VerdictFrame(DataFrame):
    """The emotion of a stretch of speech. An interruption by the user does not remove it."""

    label: str = "unknown"
    """One of the eight labels, or `unknown` with a `reason`."""
    confidence: float | None = None
    text: str = ""
    user: str = ""
    """Who spoke, if the transport knows."""
    reason: str = ""
    event: dict[str, Any] = field(default_factory=dict)
    """The whole verdict, as in docs/events.md."""
    interruptible: bool = field(default=False, init=False)


class EmotionProcessor(FrameProcessor):
    """Listens to the users of a pipeline.

    Args:
        client: the gateway.
        name: returns the name of a user's call; it must not be one that is open.
        finish_s: how long the end of the pipeline waits for the last verdicts.

    """

    def __init__(
        self, client: Client, *, name: Callable[[str], str] = lambda _: "", finish_s: float = 5.0
    ) -> None:
        super().__init__()
        self._client, self._call, self._finish_s = client, name, finish_s
        self._tracks: dict[tuple[str, int, int], tuple[Listening, asyncio.Task[None]]] = {}
        """By user, rate and channels."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Send audio; at the end, wait for the last verdicts; pass each frame on."""
        await super().process_frame(frame, direction)
        match frame:
            case InputAudioRawFrame():
                self._track(frame).feed(frame.audio)
            case EndFrame():
                await self._finish()
            case CancelFrame():
                await self._stop()
            case _:
                pass
        await self.push_frame(frame, direction)

    async def cleanup(self) -> None:
        """Close the connections."""
        await self._stop()
        await super().cleanup()

    def _track(self, frame: InputAudioRawFrame) -> Listening:
        user = getattr(frame, "user_id", "")
        key = user, frame.sample_rate, frame.num_channels
        if key not in self._tracks:
            track = self._client.listen(
                rate=frame.sample_rate, channels=frame.num_channels, name=self._call(user)
            )
            self._tracks[key] = track, self.create_task(self._follow(track, user))
        return self._tracks[key][0]

    async def _follow(self, track: Listening, user: str) -> None:
        try:
            async for event in track.events():
                if event["type"] == "verdict":
                    await self.push_frame(_frame(event, user))
        except GatewayError as error:  # the conversation goes on without emotions
            await self.push_error(str(error))

    async def _finish(self) -> None:
        for track, _ in self._tracks.values():
            track.close()
        if tasks := [task for _, task in self._tracks.values()]:
            await asyncio.wait(tasks, timeout=self._finish_s)

    async def _stop(self) -> None:
        for _, task in self._tracks.values():
            if not task.done():
                await self.cancel_task(task)
        self._tracks.clear()


def _frame(event: dict[str, Any], user: str) -> VerdictFrame:
    return VerdictFrame(
        label=event["label"],
        confidence=event["confidence"],
        text=(event["transcript"] or {}).get("text", ""),
        user=user,
        reason=event["reason"],
        event=event,
    )
