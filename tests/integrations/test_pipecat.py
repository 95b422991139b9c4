"""The processor in a pipeline of pipecat, with a real gateway."""

from __future__ import annotations

import asyncio
import sys

import pytest
from pipecat.frames.frames import ErrorFrame, InputAudioRawFrame, UserAudioRawFrame
from pipecat.tests.utils import SleepFrame, run_test
from places import ROOT

from abhinaya.client import Client
from abhinaya.models.labels import LABELS

sys.path.insert(0, str(ROOT / "examples" / "pipecat"))
from emotion_processor import EmotionProcessor, VerdictFrame


def test_verdicts_come_beside_audio_that_passes_unchanged(
    client: Client, speech: list[bytes]
) -> None:
    frames = []
    for data in speech:
        frames += [UserAudioRawFrame(data, 16_000, 1, user_id="anna"), SleepFrame(0.015)]
    processor = EmotionProcessor(client, name=lambda user: f"pipecat-{user}", finish_s=20)
    down, _ = asyncio.run(run_test(processor, frames_to_send=frames))
    assert [f.audio for f in down if isinstance(f, InputAudioRawFrame)] == speech
    verdicts = [frame for frame in down if isinstance(frame, VerdictFrame)]
    assert verdicts
    assert {frame.label for frame in verdicts} <= {*LABELS, "unknown"}
    assert verdicts[0].user == "anna"
    assert verdicts[0].text
    assert verdicts[0].event["stream"].startswith("listen:pipecat-anna")


@pytest.mark.parametrize("token", ["wrong", ""])
def test_without_the_gateway_the_conversation_goes_on(
    client: Client, speech: list[bytes], token: str
) -> None:
    lost = Client(client.address if token else "http://127.0.0.1:9", token, patience_s=0.2)
    frames = [InputAudioRawFrame(data, 16_000, 1) for data in speech[:50]]
    down, up = asyncio.run(
        run_test(EmotionProcessor(lost), frames_to_send=[*frames, SleepFrame(1.5)])
    )
    assert [f.audio for f in down if isinstance(f, InputAudioRawFrame)] == speech[:50]
    (error,) = (frame for frame in up if isinstance(frame, ErrorFrame))
    assert ("the token is unknown" if token else "has not answered") in error.error
