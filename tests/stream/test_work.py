"""The seam between the wire and the models."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import fakes
import numpy as np
import pytest

from abhinaya.models import registry
from abhinaya.models.asr import Hearing, SpokenWord, Transcription
from abhinaya.models.base import Abstention, Ballot, Card, Utterance
from abhinaya.models.labels import LABELS
from abhinaya.stream import work as work_module
from abhinaya.stream.config import WorkerConfig
from abhinaya.stream.errors import ConfigError, ModelError
from abhinaya.stream.messages import Failed, Payload, Task, Transcript, Vote
from abhinaya.stream.work import Answer, Transcribing, Voting, load_work, samples_of

PROBABILITIES = (0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class Voter:
    card = Card(
        model="fake",
        version="7",
        needs=frozenset({"transcript", "audio"}),
        labels=("happy", "sad"),
        licence="CC-BY-NC-4.0",
        noncommercial=True,
    )

    def __init__(self, *votes: Ballot | Abstention) -> None:
        self.votes = list(votes)
        self.seen: list[Utterance] = []

    def vote(self, batch: Sequence[Utterance]) -> list[Ballot | Abstention]:
        self.seen += batch
        return self.votes


class Hearer:
    model, version, licence, noncommercial = "ears", "3", "MIT", False
    context_turns, incremental = 2, True

    def __init__(self, *texts: Transcription) -> None:
        self.texts = list(texts)
        self.seen: list[Hearing] = []
        self.forgotten: list[tuple[str, int]] = []

    def transcribe(self, batch: Sequence[Hearing]) -> list[Transcription]:
        self.seen += batch
        return self.texts

    def forget(self, stream: str, sequence: int) -> None:
        self.forgotten.append((stream, sequence))


def seen_by_voter(task: Task) -> Utterance:
    voter = Voter(Ballot("happy"))
    Voting("S1", voter).run([task])
    return voter.seen[0]


# --- what a model sees ----------------------------------------------------------------------------


def test_int16_samples_become_floats_between_minus_one_and_one() -> None:
    samples = samples_of(Payload.of(np.array([-32768, -16384, 0, 16384, 32767], np.int16)))
    assert samples.dtype == np.float32
    assert samples.tolist() == [-1.0, -0.5, 0.0, 0.5, 32767 / 32768]


def test_float_samples_pass_as_they_are() -> None:
    given = np.array([-1.5, -0.25, 0.0, 0.75], np.float32)
    samples = samples_of(Payload.of(given))
    assert samples.dtype == np.float32
    assert np.shares_memory(samples, given)


def test_without_samples_there_are_none() -> None:
    samples = samples_of(None)
    assert samples.dtype == np.float32
    assert samples.shape == (0,)


def test_a_voter_sees_samples_statistics_and_transcript() -> None:
    utterance = seen_by_voter(fakes.task(3, heard=fakes.heard(), transcript="hello"))
    assert utterance.samples.tolist() == [3 / 32768] * 16
    assert utterance.heard is not None
    assert utterance.heard.frames == 7
    assert utterance.heard.mean.tolist() == [0, 1, 2, 3]
    assert utterance.heard.std.tolist() == [0.5] * 4
    assert utterance.transcript == "hello"


def test_what_a_task_does_not_carry_is_empty() -> None:
    utterance = seen_by_voter(fakes.task(3, samples=None))
    assert utterance.samples.shape == (0,)
    assert utterance.heard is None
    assert utterance.transcript == ""


def test_a_transcriber_sees_the_samples() -> None:
    hearer = Hearer(Transcription(""))
    Transcribing("asr", hearer).run([fakes.task(3)])
    hearing = hearer.seen[0]
    assert hearing.samples.tolist() == [3 / 32768] * 16
    assert (hearing.stream, hearing.sequence, hearing.final) == ("call", 3, True)
    assert hearing.previous == ""


def test_a_transcriber_sees_that_a_part_is_one_and_what_was_said_before() -> None:
    hearer = Hearer(Transcription(""))
    Transcribing("asr", hearer).run([fakes.task(3, part=2, context=("yes.", "And then"))])
    assert not hearer.seen[0].final
    assert hearer.seen[0].previous == "yes. And then"


def test_a_voter_sees_what_was_said_before() -> None:
    task = fakes.task(3, transcript="hello", context=("yes.", "And then"))
    assert seen_by_voter(task).context == ("yes.", "And then")


def test_a_transcriber_is_told_what_to_forget() -> None:
    hearer = Hearer()
    Transcribing("asr", hearer).forget("call", 3)
    assert hearer.forgotten == [("call", 3)]


# --- what it answers ------------------------------------------------------------------------------


def test_a_voter_introduces_itself_by_its_card() -> None:
    ready = Voting("S1", Voter()).ready("S1-0", "42", 16)
    assert (ready.node, ready.incarnation, ready.service, ready.credits) == ("S1-0", "42", "S1", 16)
    assert ready.needs == ("audio", "transcript")
    assert ready.gives == "vote"
    assert ready.labels == ("happy", "sad")
    assert (ready.model, ready.version) == ("fake", "7")
    assert (ready.licence, ready.noncommercial) == ("CC-BY-NC-4.0", True)


def test_a_voter_is_tried_before_it_counts() -> None:
    voter = Voter(Ballot("happy"))
    trial_ms = Voting("S1", voter).ready("S1-0", "42", 16).trial_ms
    assert trial_ms is not None
    assert 0 <= trial_ms < 1000
    assert len(voter.seen) == 2
    assert len(voter.seen[0].samples) == 16_000


def test_a_served_voter_is_not_tried() -> None:
    voter = Voter(Ballot("happy"))
    voter.card = dataclasses.replace(Voter.card, served=True)
    assert Voting("S1", voter).ready("S1-0", "42", 16).trial_ms is None
    assert voter.seen == []


def test_a_trial_that_fails_is_told_and_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    ready = Voting("S1", Voter()).ready("S1-0", "42", 16)  # gives no answer where one is due
    assert ready.trial_ms is None
    assert "the trial failed: ValueError" in capsys.readouterr().err


def test_a_transcriber_introduces_itself() -> None:
    ready = Transcribing("asr", Hearer()).ready("asr-0", "42", 2)
    assert (ready.needs, ready.gives, ready.labels) == (("audio",), "transcript", ())
    assert (ready.model, ready.version, ready.licence) == ("ears", "3", "MIT")
    assert (ready.context_turns, ready.incremental) == (2, True)


def test_a_ballot_becomes_a_vote_in_the_name_of_the_service() -> None:
    ready = Voting("S1", Voter()).ready("S1-0", "42", 1)
    answer = Answer(ballot=Ballot("angry", PROBABILITIES))
    vote = answer.message(fakes.task(3, stream="left"), ready, 1.5, 2.5, 4)
    assert vote == Vote(
        stream="left",
        sequence=3,
        voter="S1",
        label="angry",
        probabilities=PROBABILITIES,
        model="fake",
        version="7",
        queue_ms=1.5,
        run_ms=2.5,
        batch_size=4,
    )


def test_the_words_of_a_transcript_are_at_their_place_in_the_stream() -> None:
    hearer = Hearer(
        Transcription("hello", (SpokenWord("hello", 2, 9, 0.5),), confidence=0.5, language="en")
    )
    transcribing = Transcribing("asr", hearer)
    task = fakes.task(2)
    (answer,) = transcribing.run([task])
    message = answer.message(task, transcribing.ready("asr-0", "1", 1), 0.0, 0.0, 1)
    assert isinstance(message, Transcript)
    assert (message.text, message.confidence, message.language) == ("hello", 0.5, "en")
    (word,) = message.words
    assert (word.text, word.start, word.end, word.confidence) == (
        "hello",
        2 * fakes.SECOND + 2,
        2 * fakes.SECOND + 9,
        0.5,
    )


def test_an_abstention_is_a_failure_that_is_not_tried_again() -> None:
    voting = Voting("S1", Voter(Abstention("too short"), Ballot("sad")))
    tasks = [fakes.task(0), fakes.task(1)]
    abstained, voted = voting.run(tasks)
    message = abstained.message(tasks[0], voting.ready("S1-0", "1", 1), 0.0, 0.0, 2)
    assert message == Failed(
        stream="call", sequence=0, service="S1", reason="too short", retry=False
    )
    assert voted.ballot == Ballot("sad")


# --- loading --------------------------------------------------------------------------------------


def test_an_embedded_voter_loads_and_votes_on_what_came_over_the_wire() -> None:
    work = load_work("S1", WorkerConfig(model="compact-speech"))
    ready = work.ready("S1-0", "1", 1)
    assert ready.gives == "vote"
    assert set(ready.labels) <= set(LABELS)
    noise = np.random.default_rng(0).normal(0, 3000, 16_000).astype(np.int16)
    (answer,) = work.run([fakes.task(0, samples=Payload.of(noise))])
    assert answer.ballot is not None
    assert answer.ballot.label in ready.labels


@pytest.mark.parametrize("service", ["S1", "asr"])
def test_an_unknown_model_is_refused_by_name(service: str) -> None:
    with pytest.raises(ModelError, match="no-such-model"):
        load_work(service, WorkerConfig(model="no-such-model"))


@pytest.mark.parametrize("service", ["S1", "asr"])
def test_what_breaks_while_loading_becomes_a_model_error(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(model: str, options: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(registry, "load", load)
    monkeypatch.setattr(work_module, "load_transcriber", load)
    with pytest.raises(ModelError) as error:
        load_work(service, WorkerConfig(model="fake"))
    assert error.value.subject == f"{service} (fake)"
    assert "CUDA out of memory" in error.value.reason
    assert error.value.remedy
    assert isinstance(error.value.__cause__, RuntimeError)


def test_an_error_of_ours_is_passed_on_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = ConfigError("x", "y")

    def load(model: str, options: Any) -> Any:
        raise ours

    monkeypatch.setattr(registry, "load", load)
    with pytest.raises(ConfigError) as error:
        load_work("S1", WorkerConfig(model="fake"))
    assert error.value is ours
