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
from abhinaya.models.labels import LABELS, Attributes
from abhinaya.stream.errors import ModelError
from abhinaya.stream.node import worker as work_module
from abhinaya.stream.node.answers import Failure, answer_of, sendable
from abhinaya.stream.node.worker import (
    Adapter,
    Transcribing,
    Voting,
    load_model,
    run_safely,
    samples_of,
)
from abhinaya.stream.settings.config import WorkerConfig
from abhinaya.stream.wire.messages import Failed, Message, Payload, Task, Transcript, Vote

PROBABILITIES = (0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class Voter:
    card = Card(
        model="fake",
        version="7",
        needs=frozenset({"transcript", "audio"}),
        labels=("happy", "sad"),
        licence="CC-BY-NC-4.0",
        noncommercial=True,
        context_turns=2,
        stateful=True,
    )

    def __init__(self, *votes: Ballot | Abstention) -> None:
        self.votes = list(votes)
        self.seen: list[Utterance] = []

    def vote(self, batch: Sequence[Utterance]) -> list[Ballot | Abstention]:
        self.seen += batch
        return self.votes


class Hearer:
    model, version, licence, noncommercial = "ears", "3", "MIT", False
    context_turns, incremental, stateful = 2, True, True

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
    return voter.seen[-1]


# --- what a model sees ----------------------------------------------------------------------------


def test_int16_samples_become_floats_between_minus_one_and_one() -> None:
    samples = samples_of(Payload.of(np.array([-32768, -16384, 0, 16384, 32767], np.int16)))
    assert samples.dtype == np.float32
    assert samples.tolist() == [-1.0, -0.5, 0.0, 0.5, 32767 / 32768]


def test_a_voter_sees_samples_its_own_state_and_the_transcript() -> None:
    states = {"S1": b"mine", "S2": b"another's"}
    utterance = seen_by_voter(fakes.task(3, transcript="hello", language="en", states=states))
    assert utterance.samples.tolist() == [3 / 32768] * 16
    assert utterance.state == b"mine"
    assert (utterance.transcript, utterance.language) == ("hello", "en")


def test_what_a_task_does_not_carry_is_empty() -> None:
    utterance = seen_by_voter(fakes.task(3, samples=None))
    assert utterance.samples.shape == (0,)
    assert (utterance.state, utterance.transcript, utterance.language) == (b"", "", "")


def test_a_transcriber_sees_that_a_part_is_one_and_what_was_said_before() -> None:
    hearer = Hearer(Transcription(""))
    Transcribing("asr", hearer).run([fakes.task(3, part=2, previous=("yes.", "And then"))])
    assert not hearer.seen[0].final
    assert hearer.seen[0].previous == "yes. And then"


# --- what it answers ------------------------------------------------------------------------------


def test_a_voter_introduces_itself_by_its_card() -> None:
    service = Voting("S1", Voter()).service
    assert (service.name, service.kind) == ("S1", "vote")
    assert service.needs == ("audio", "transcript")
    assert service.labels == ("happy", "sad")
    assert (service.model, service.version) == ("fake", "7")
    assert (service.licence, service.noncommercial) == ("CC-BY-NC-4.0", True)
    assert (service.context_turns, service.stateful) == (2, True)


def test_a_voter_is_tried_before_it_counts() -> None:
    voter = Voter(Ballot("happy"))
    trial_ms = Voting("S1", voter).service.trial_ms
    assert trial_ms is not None
    assert 0 <= trial_ms < 1000
    assert len(voter.seen) == 2
    assert len(voter.seen[0].samples) == 16_000


def test_a_served_voter_is_not_tried() -> None:
    voter = Voter(Ballot("happy"))
    voter.card = dataclasses.replace(Voter.card, served=True)
    assert Voting("S1", voter).service.trial_ms is None
    assert voter.seen == []


def test_a_trial_that_fails_is_logged_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    assert Voting("S1", Voter()).service.trial_ms is None  # no answer where one is due
    assert "the trial failed: ValueError" in caplog.text


def test_a_transcriber_introduces_itself() -> None:
    service = Transcribing("asr", Hearer()).service
    assert (service.needs, service.kind, service.labels) == (("audio",), "transcript", ())
    assert (service.model, service.version, service.licence) == ("ears", "3", "MIT")
    assert (service.context_turns, service.incremental, service.stateful) == (2, True, True)
    assert service.trial_ms is None, "it is asked for every part anyway"


def test_a_transcriber_that_is_not_incremental_is_tried_with_a_part_that_it_then_forgets() -> None:
    hearer = Hearer(Transcription(""))
    hearer.incremental = False
    assert Transcribing("asr", hearer).service.trial_ms is not None
    assert [len(h.samples) for h in hearer.seen] == [16_000] * 2
    assert not any(h.final for h in hearer.seen)
    assert len(hearer.forgotten) == 2


def test_a_ballot_becomes_a_vote_in_the_name_of_the_service() -> None:
    service = Voting("S1", Voter()).service
    ballot = Ballot("angry", PROBABILITIES, b"known")
    vote = answer_of(fakes.task(3, stream="left"), service, ballot, 1.5, 2.5, 4)
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
        state=b"known",
    )


def test_the_words_of_a_transcript_are_at_their_place_in_the_stream() -> None:
    hearer = Hearer(
        Transcription(
            "hallo",
            (SpokenWord("hallo", 2, 9, 0.5),),
            confidence=0.5,
            language="de",
            language_probability=0.9,
            translation="hello",
            state=b"de",
        )
    )
    transcribing = Transcribing("asr", hearer)
    task = fakes.task(2)
    (outcome,) = transcribing.run([task])
    message = answer_of(task, transcribing.service, outcome)
    assert isinstance(message, Transcript)
    assert (message.text, message.confidence, message.translation) == ("hallo", 0.5, "hello")
    assert (message.language, message.language_probability) == ("de", 0.9)
    assert message.state == b"de"
    (word,) = message.words
    assert (word.text, word.start, word.end, word.confidence) == (
        "hallo",
        2 * fakes.SECOND + 2,
        2 * fakes.SECOND + 9,
        0.5,
    )


def test_an_abstention_is_a_failure_that_is_not_tried_again() -> None:
    voting = Voting("S1", Voter(Abstention("too short", b"known"), Ballot("sad")))
    tasks = [fakes.task(0), fakes.task(1)]
    abstained, voted = voting.run(tasks)
    message = answer_of(tasks[0], voting.service, abstained)
    assert message == Failed(
        stream="call", sequence=0, service="S1", reason="too short", retry=False, state=b"known"
    )
    assert voted == Ballot("sad")


# --- several models in one node -------------------------------------------------------------------


class Echo:
    """Votes happy on all it sees; breaks on what `breaks` is in."""

    def __init__(self, needs: str = "transcript", breaks: str = "") -> None:
        self.card = dataclasses.replace(Voter.card, needs=frozenset(needs.split()), stateful=False)
        self.breaks = breaks
        self.batches: list[list[str]] = []

    def vote(self, batch: Sequence[Utterance]) -> list[Ballot | Abstention]:
        self.batches.append([utterance.transcript for utterance in batch])
        if self.breaks and any(self.breaks in utterance.transcript for utterance in batch):
            raise RuntimeError("tensor of the wrong shape")
        return [Ballot("happy") for _ in batch]


class Ear(Hearer):
    """Hears the number of the segment, in German if `german`; cannot hear those in `deaf_to`."""

    def __init__(self, german: bool = False, deaf_to: Sequence[int] = ()) -> None:
        super().__init__()
        self.german, self.deaf_to = german, deaf_to

    def transcribe(self, batch: Sequence[Hearing]) -> list[Transcription]:
        if any(hearing.sequence in self.deaf_to for hearing in batch):
            raise RuntimeError("out of memory")
        return [
            Transcription(f"Nummer {h.sequence}", language="de", translation=f"number {h.sequence}")
            if self.german
            else Transcription(f"number {h.sequence}", language="en")
            for h in batch
        ]


def answered(adapter: Adapter, *tasks: Task) -> list[Message]:
    answers = adapter.run(0.0, [(0.0, task) for task in tasks])
    return [answer for those in answers for answer in those]


def wanted(sequence: int, services: str, **changes: Any) -> Task:
    return fakes.task(sequence, services=tuple(services.split()), **changes)


def test_the_transcriber_comes_first_and_the_voters_read_what_it_heard() -> None:
    text, sound = Echo(), Echo("audio")
    adapter = Adapter([Voting("T2", text), Voting("S1", sound), Transcribing("asr", Ear())])
    text.batches.clear()
    found = answered(adapter, wanted(0, "asr T2 S1"), wanted(1, "S1"), wanted(2, "asr T2"))
    assert [service.name for service in adapter.gives] == ["asr", "T2", "S1"]
    assert [type(message).__name__ for message in found] == ["Transcript"] * 2 + ["Vote"] * 4
    assert text.batches == [["number 0", "number 2"]]
    assert [m.sequence for m in found if isinstance(m, Vote) and m.voter == "S1"] == [0, 1]


def test_text_voters_read_the_translation() -> None:
    text = Echo()
    adapter = Adapter([Transcribing("asr", Ear(german=True)), Voting("T2", text)])
    (transcript, _) = answered(adapter, wanted(0, "asr T2"))
    assert isinstance(transcript, Transcript)
    assert (transcript.text, transcript.translation) == ("Nummer 0", "number 0")
    assert text.batches[-1] == ["number 0"]


def test_a_voter_that_breaks_fails_itself_alone() -> None:
    adapter = Adapter(
        [Transcribing("asr", Ear()), Voting("T2", Echo(breaks="1")), Voting("T3", Echo())]
    )
    found = answered(adapter, wanted(0, "asr T2 T3"), wanted(1, "asr T2 T3"))
    failed = [message for message in found if isinstance(message, Failed)]
    assert [(f.service, f.sequence, f.retry) for f in failed] == [("T2", 1, True)]
    assert failed[0].reason == "RuntimeError: tensor of the wrong shape"
    assert len(found) == 6


def test_who_needs_a_transcript_that_failed_fails_with_it_and_the_others_vote() -> None:
    text, sound = Echo(), Echo("audio")
    adapter = Adapter(
        [Transcribing("asr", Ear(deaf_to=[1])), Voting("T2", text), Voting("S1", sound)]
    )
    found = answered(adapter, wanted(0, "asr T2 S1"), wanted(1, "asr T2 S1"))
    failed = {m.service: m.reason for m in found if isinstance(m, Failed)}
    assert failed == {
        "asr": "RuntimeError: out of memory",
        "T2": "no transcript: RuntimeError: out of memory",
    }
    assert text.batches[-1] == ["number 0"]
    assert len(sound.batches[-1]) == 2


def test_all_forget_a_segment_and_who_cannot_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Stubborn(Hearer):
        def forget(self, stream: str, sequence: int) -> None:
            raise RuntimeError("no such thing")

    hearer = Hearer()
    Adapter([Transcribing("asr", Stubborn()), Transcribing("asr", hearer)]).forget("call", 3)
    assert hearer.forgotten == [("call", 3)]
    assert "could not delete data of partials: RuntimeError: no such thing" in caplog.text


# --- what goes wrong in a batch -------------------------------------------------------------------


def test_a_batch_that_fails_is_run_task_by_task() -> None:
    echo = Echo(breaks="bad")
    voting = Voting("T2", echo)
    echo.batches.clear()
    texts = ["good", "bad", "fine"]
    answers = run_safely(voting, [fakes.task(i, transcript=t) for i, t in enumerate(texts)])
    assert echo.batches == [texts, ["good"], ["bad"], ["fine"]]
    assert [isinstance(answer, Ballot) for answer in answers] == [True, False, True]


class Odd:
    """Stands in for a model: `answers` answers to more than one task, or an error."""

    service = fakes.service("S1")

    def __init__(self, answers: int = 0, error: str = "") -> None:
        self.answers, self.error = answers, error

    def run(self, batch: Sequence[Task]) -> list[Ballot]:
        if self.error:
            raise ValueError(self.error)
        if len(batch) == 1:
            return [Ballot("happy")]
        return [Ballot("sad")] * self.answers

    def forget(self, stream: str, sequence: int) -> None:
        pass


def test_what_a_model_says_in_dying_is_cut_short() -> None:
    (failure,) = run_safely(Odd(error="x" * 100_000), [fakes.task(0)])
    assert isinstance(failure, Failure)
    assert failure.retry
    assert len(failure.reason) < 300


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_model_that_gives_the_wrong_number_of_answers_has_failed(count: int) -> None:
    answers = run_safely(Odd(count), [fakes.task(0), fakes.task(1)])
    assert answers == [Ballot("happy"), Ballot("happy")]


# --- loading --------------------------------------------------------------------------------------


def test_an_embedded_voter_loads_and_votes_on_what_came_over_the_wire() -> None:
    model = load_model("S1", WorkerConfig(model="tiny-speech"))
    assert model.service.kind == "vote"
    assert set(model.service.labels) <= set(LABELS)
    noise = np.random.default_rng(0).normal(0, 3000, 16_000).astype(np.int16)
    (answer,) = model.run([fakes.task(0, samples=Payload.of(noise))])
    assert isinstance(answer, Ballot)
    assert answer.label in model.service.labels


@pytest.mark.parametrize("service", ["S1", "asr"])
def test_an_unknown_model_is_refused_by_name(service: str) -> None:
    with pytest.raises(ModelError, match="no-such-model"):
        load_model(service, WorkerConfig(model="no-such-model"))


@pytest.mark.parametrize("service", ["S1", "asr"])
def test_what_breaks_while_loading_becomes_a_model_error(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(model: str, options: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(registry, "load", load)
    monkeypatch.setattr(work_module, "load_transcriber", load)
    with pytest.raises(ModelError) as error:
        load_model(service, WorkerConfig(model="fake"))
    assert error.value.subject == f"{service} (fake)"
    assert "CUDA out of memory" in error.value.reason
    assert error.value.remedy
    assert isinstance(error.value.__cause__, RuntimeError)


# --- values that none may have --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transcription", "reason"),
    [
        (Transcription("hi", confidence=float("nan")), "confidence"),
        (Transcription("hi", words=(SpokenWord("hi", -99_999, 5),)), "words"),
        (Transcription("x" * 40_000), "text"),
        (Transcription(None), "NoneType"),  # type: ignore[arg-type]
        (Transcription("hi", confidence=np.float32(0.5)), "float32"),  # type: ignore[arg-type]
    ],
)
def test_an_answer_that_the_hub_would_refuse_the_node_for_is_a_failure_of_the_segment(
    transcription: Transcription, reason: str
) -> None:
    adapter = Adapter([Transcribing("asr", Hearer(transcription))])
    ((answer,),) = adapter.run(0.0, [(0.0, fakes.task(3, services=("asr",)))])
    assert isinstance(answer, Failed)
    assert not answer.retry
    assert "gave an answer that cannot be sent" in answer.reason
    assert reason in answer.reason


@pytest.mark.parametrize(
    "rated", [(float("nan"), 2, 3), (1, 8, 3), (1, 2, -1), (1, 2), (1, 2, 3, 4), "AVD", 5]
)
def test_attributes_that_are_none_are_a_failure_of_the_segment(rated: Any) -> None:
    task, service = fakes.task(3, services=("S1",)), fakes.service("S1", attributes=True)
    answer = sendable(task, service, Ballot("sad", attributes=rated))
    assert isinstance(answer, Failed)
    assert not answer.retry
    given = sendable(task, service, Ballot(attributes=np.array([1, 4.5, 7], np.float32)))
    assert isinstance(given, Vote)
    assert (given.label, given.attributes) == ("", Attributes(1.0, 4.5, 7.0))
