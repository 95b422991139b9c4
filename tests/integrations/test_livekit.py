"""The plug-in in a session of LiveKit Agents, with a real gateway."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentSession, Plugin, stt
from livekit.agents.voice.io import AudioInput
from places import ROOT

from abhinaya.client import Client, GatewayError
from abhinaya.models.labels import LABELS

sys.path.insert(0, str(ROOT / "examples" / "livekit"))
import emotion_input as plugin


class Line(AudioInput):
    """A source in real time."""

    def __init__(self, speech: list[bytes]) -> None:
        super().__init__(label="line")
        self._speech = iter(speech)
        self.over = asyncio.Event()

    async def __anext__(self) -> rtc.AudioFrame:
        await asyncio.sleep(0.018)
        data = next(self._speech, None)
        if data is None:
            self.over.set()
            raise StopAsyncIteration
        return rtc.AudioFrame(data, 16_000, 1, len(data) // 2)


class Recognizer(stt.STT):
    """Stands for the speech recognition of the agent, whose node the test replaces."""

    def __init__(self) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=False))

    async def _recognize_impl(self, *args: Any, **options: Any) -> stt.SpeechEvent:
        raise AssertionError


def test_an_agent_hears_the_same_audio_and_verdicts_come(
    client: Client, speech: list[bytes]
) -> None:
    heard: list[bytes] = []
    found: list[plugin.Verdict] = []

    class Listener(Agent):
        async def stt_node(self, audio: Any, model_settings: Any) -> Any:
            async for frame in audio:
                heard.append(bytes(frame.data))
            return
            yield

    async def talk() -> None:
        session, line = AgentSession(stt=Recognizer()), Line(speech)
        emotions = plugin.Emotions(client, line, name="livekit")
        emotions.on("verdict", found.append)
        session.input.audio = emotions
        await session.start(Listener(instructions=""))
        await line.over.wait()
        await emotions.aclose(20)
        await session.aclose()

    asyncio.run(asyncio.wait_for(talk(), 60))
    assert len(heard) > 0.9 * len(speech)
    # a session may cut the last frames off, or add silence
    assert heard[: len(speech)] == speech[: len(heard)]
    assert found
    assert {verdict.label for verdict in found} <= {*LABELS, "unknown"}
    assert found[0].text
    assert found[0].event["stream"].startswith("listen:livekit")
    assert "abhinaya" in [p.title for p in Plugin.registered_plugins]


def test_without_the_gateway_the_audio_goes_on(client: Client, speech: list[bytes]) -> None:
    errors: list[GatewayError] = []

    async def talk() -> list[bytes]:
        emotions = plugin.Emotions(Client(client.address, "wrong"), Line(speech[:50]))
        emotions.on("error", errors.append)
        heard = [bytes(frame.data) async for frame in emotions]
        await emotions.aclose()
        return heard

    assert asyncio.run(talk()) == speech[:50]
    assert "the token is unknown" in str(errors[0])
