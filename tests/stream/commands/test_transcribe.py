from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from abhinaya.bench.demo import CALL
from abhinaya.models.asr.base import Hearing, SpokenWord, Transcription
from abhinaya.stream.commands import main as commands
from abhinaya.stream.commands import transcribe
from abhinaya.stream.commands.transcribe import Request, Text, read_requests, summary
from abhinaya.stream.errors import ConfigError, SourceError
from abhinaya.stream.front.listener import Listener
from abhinaya.stream.front.vad import SileroVad
from abhinaya.stream.settings.config import VadConfig
from abhinaya.stream.sources import InputConfig, open_source


class Lengths:
    """Says how long each segment is; notes how many it was given at once."""

    model = version = licence = "lengths"
    noncommercial = incremental = False
    context_turns = 0

    def __init__(self) -> None:
        self.batches: list[int] = []

    def transcribe(self, batch: Sequence[Hearing]) -> list[Transcription]:
        self.batches.append(len(batch))
        return [Transcription(str(len(hearing.samples)), confidence=0.5) for hearing in batch]

    def forget(self, stream: str, sequence: int) -> None:
        pass


def said(request: Request, batch: int = 8) -> tuple[list[Text], list[int]]:
    transcriber = Lengths()
    texts = list(transcribe.transcribe(request, transcriber, VadConfig(), SileroVad(), batch))
    return texts, transcriber.batches


def test_a_recording_is_cut_as_the_monitor_cuts_it() -> None:
    source = open_source(InputConfig(str(CALL)))
    whole = np.concatenate([chunk.samples for chunk in source.chunks()])
    listener = Listener(VadConfig(), 1)
    expected = [piece for _, piece in listener.feed(whole) + listener.finish()]
    texts, batches = said(Request("1", str(CALL)), batch=4)
    assert [(t.piece.start, t.piece.end) for t in texts] == [(p.start, p.end) for p in expected]
    assert [t.transcription.text for t in texts] == [str(len(p.samples)) for p in expected]
    assert batches == [4] * (len(expected) // 4) + [len(expected) % 4] * bool(len(expected) % 4)


def test_a_stretch_is_heard_as_if_it_were_all_there_is() -> None:
    source = open_source(InputConfig(str(CALL)))
    whole = np.concatenate([chunk.samples for chunk in source.chunks()])
    listener = Listener(VadConfig(), 1)
    expected = [p for _, p in listener.feed(whole[64_000:144_000]) + listener.finish()]
    texts, _ = said(Request("1", str(CALL), start_s=4.0, end_s=9.0))
    assert [(t.piece.start, t.piece.end) for t in texts] == [(p.start, p.end) for p in expected]


def test_a_stretch_beyond_the_end_is_named() -> None:
    with pytest.raises(SourceError, match=r"call.*is over after .* before the requested"):
        said(Request("1", str(CALL), start_s=400.0))


def test_confidence_counts_words_and_silence_says_nothing() -> None:
    piece = said(Request("1", str(CALL)))[0][0].piece
    words = (SpokenWord("x", 0, 1),)
    values = summary(
        [
            Text(piece, Transcription("one two three", words, 0.9, "en")),
            Text(piece, Transcription("", reason="silence")),
            Text(piece, Transcription("four", words, 0.5, "en")),
        ]
    )
    assert values["text"] == "one two three four"
    assert values["confidence"] == pytest.approx((3 * 0.9 + 0.5) / 4)
    assert [p["reason"] for p in values["pieces"]] == ["", "silence", ""]
    assert summary([])["text"] == ""


def test_a_broken_list_of_requests_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text('{"id": "1", "path": "a.wav"}\n{"id": "2"}\n')
    with pytest.raises(ConfigError, match=r"requests.jsonl:2.*path"):
        read_requests(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_requests(tmp_path / "none.jsonl")


@pytest.mark.processes
def test_one_bad_recording_does_not_stop_the_others(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    code = commands.main(["transcribe", "no.wav", str(CALL)])
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert code == 3
    assert [line["type"] for line in lines] == ["ready", "error", "transcript"]
    assert lines[1]["reason"] == "no such file"
    assert "furious" in lines[2]["text"]


def test_without_a_recording_the_remedy_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["transcribe"]) == 2
    assert "name a file" in capsys.readouterr().err
