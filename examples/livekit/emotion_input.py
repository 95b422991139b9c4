"""A LiveKit Agents plug-in: what an agent hears also goes to `abhinaya serve`.

    pip install 'abhinaya[examples]'
    abhinaya serve &

    await session.start(agent, room=ctx.room)
    emotions = Emotions(Client("http://127.0.0.1:8377", token), session.input.audio)
    emotions.on("verdict", lambda verdict: print(verdict.label, verdict.text))
    session.input.audio = emotions

The agent's own speech recognition gets the same audio, unchanged and at once.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Literal

from livekit import rtc
from livekit.agents import Plugin
from livekit.agents.voice.io import AudioInput

from abhinaya.client import Client, GatewayError, Listening

logger = logging.getLogger("livekit.plugins.abhinaya")


class AbhinayaPlugin(Plugin):
    """Announces the plug-in to LiveKit Agents."""

    def __init__(self) -> None:
        super().__init__("abhinaya", "1", __name__, logger)


Plugin.register_plugin(AbhinayaPlugin())


@dataclass(frozen=True)
class Verdict:
    """The emotion of a stretch of speech."""

    label: str
    """One of the eight labels, or `unknown` with a `reason`."""
    confidence: float | None
    text: str
    reason: str
    event: dict[str, Any]
    """The whole verdict, as in docs/events.md."""


class Emotions(AudioInput, rtc.EventEmitter[Literal["verdict", "error"]]):
    """An audio input that passes its source on, and emits `verdict` and `error`.

    Args:
        client: the gateway.
        source: the audio input of the session.
        name: name of the call.

    """

    def __init__(self, client: Client, source: AudioInput, name: str = "") -> None:
        AudioInput.__init__(self, label="Emotions", source=source)
        rtc.EventEmitter.__init__(self)
        self._client, self._name = client, name
        self._format: tuple[int, int] | None = None
        self._track: Listening | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __anext__(self) -> rtc.AudioFrame:
        """Return the next frame of the source, and send a copy."""
        try:
            frame = await super().__anext__()
        except StopAsyncIteration:
            self._close()
            raise
        if (frame.sample_rate, frame.num_channels) != self._format:
            self._open(frame)
        assert self._track is not None
        self._track.feed(bytes(frame.data))
        return frame

    async def aclose(self, finish_s: float = 5.0) -> None:
        """End the calls; wait so long for the last verdicts."""
        self._close()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=finish_s)
            for task in late:
                task.cancel()

    def _open(self, frame: rtc.AudioFrame) -> None:
        self._close()
        self._format = frame.sample_rate, frame.num_channels
        self._track = self._client.listen(
            rate=frame.sample_rate, channels=frame.num_channels, name=self._name
        )
        task = asyncio.create_task(self._follow(self._track))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _close(self) -> None:
        if self._track is not None:
            self._track.close()
        self._format = self._track = None

    async def _follow(self, track: Listening) -> None:
        try:
            async for event in track.events():
                if event["type"] == "verdict":
                    self.emit("verdict", _verdict(event))
        except GatewayError as error:  # the conversation goes on without emotions
            logger.warning("%s", error)
            self.emit("error", error)


def _verdict(event: dict[str, Any]) -> Verdict:
    text = (event["transcript"] or {}).get("text", "")
    return Verdict(event["label"], event["confidence"], text, event["reason"], event)
