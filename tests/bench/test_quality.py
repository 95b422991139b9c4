"""bench quality: sessions are heard in the right order with the right state, figures are right."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from abhinaya.bench.asr import Utterance as Read
from abhinaya.bench.quality import command, material, measures
from abhinaya.bench.quality.acted import clips, pieces
from abhinaya.bench.quality.material import MATERIALS, Material
from abhinaya.bench.quality.offline import Answer, OfflineMonitor
from abhinaya.bench.quality.rows import as_json, rows_of, tables_of
from abhinaya.bench.quality.sessions import (
    Cutter,
    Segment,
    Session,
    Source,
    compose,
    loudest,
    truth_of,
)
from abhinaya.bench.word_times import Placed
from abhinaya.models.asr import Hearing, Transcription
from abhinaya.models.base import Abstention, Ballot, Card, Utterance
from abhinaya.models.labels import LABELS
from abhinaya.models.vote.ensemble import Rule
from abhinaya.stream.clock import SAMPLE_RATE
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.settings.profile import load

VOTERS = ("S1", "T2")


def level(value: float, seconds: float = 1.0, **of: str) -> Segment:
    return Segment(np.full(int(seconds * SAMPLE_RATE), value, np.float32), **of)


class Levels:
    """Hears how loud a segment is, in percent; its state is all that it heard before."""

    model = version = licence = "levels"
    noncommercial = incremental = False
    context_turns = 0
    stateful = False

    def __init__(self) -> None:
        self.calls = 0

    def transcribe(self, batch: Sequence[Hearing]) -> list[Transcription]:
        self.calls += len(batch)
        return [Transcription(f"{100 * h.samples.mean():.0f}") for h in batch]

    def forget(self, stream: str, sequence: int) -> None:
        pass


class Remembers:
    """Notes what it is given; its state is the words of the segments before."""

    def __init__(self, labels: dict[str, str] | None = None) -> None:
        self.seen: list[tuple[str, str]] = []
        self._labels = labels or {}

    @property
    def card(self) -> Card:
        return Card("fake", "1", frozenset({"audio"}), LABELS, "MIT", stateful=True)

    def vote(self, batch: Sequence[Utterance]) -> list[Ballot | Abstention]:
        answers: list[Ballot | Abstention] = []
        for u in batch:
            self.seen.append((u.state.decode(), u.transcript))
            state = (u.state.decode() + "," + u.transcript).strip(",").encode()
            if u.transcript == "1":
                answers.append(Abstention("too little speech"))
            else:
                answers.append(Ballot(self._labels.get(u.transcript, "neutral"), None, state))
        return answers


def answers_of(made: OfflineMonitor, *sessions: Session, kind: str = "votes") -> list[Answer]:
    return list(made.answers(Material("m", lambda _: iter(sessions), kind), Source(Path())))  # type: ignore[arg-type]


def monitor(**voters: Remembers) -> OfflineMonitor:
    return OfflineMonitor(Levels(), voters, Rule(), Levels())


def test_segments_of_a_stream_are_heard_one_after_another() -> None:
    voter = Remembers({"30": "angry"})
    session = Session("a", (level(0.2, truth="neutral"), level(0.3, truth="angry")))
    first, second = answers_of(monitor(S1=voter), session)
    assert voter.seen == [("", "20"), ("20", "30")]
    assert (first.text, first.label, second.label, second.truth) == (
        "20", "neutral", "angry", "angry",
    )  # fmt: skip


def test_segments_apart_are_each_heard_right_after_what_warms_up() -> None:
    voter = Remembers()
    warm = (level(0.5), level(0.4))
    session = Session("a", (level(0.2), level(0.3)), warm=warm, apart=True)
    answers = answers_of(monitor(S1=voter), session)
    assert voter.seen == [("", "50"), ("50", "40"), ("50,40", "20"), ("50,40", "30")]
    assert [answer.text for answer in answers] == ["20", "30"], "what warms up is not scored"


def test_a_voter_that_abstains_has_no_vote_and_keeps_what_it_knew() -> None:
    voter = Remembers()
    session = Session("a", (level(0.2), level(0.01), level(0.3)))
    answers = answers_of(monitor(S1=voter), session)
    assert [answer.votes for answer in answers] == [{"S1": "neutral"}, {}, {"S1": "neutral"}]
    assert answers[1].label == "unknown"
    assert voter.seen[2] == ("20", "30")


def test_the_cascade_hears_only_what_the_others_do_not_agree_on() -> None:
    labels = ({"20": "happy", "30": "happy"}, {"20": "happy", "30": "sad"}, {})
    large, *small = (Remembers(of) for of in labels[::-1])
    rule = Rule(cascade=("T1",), cascade_confidence=0.0)
    voters = {"T1": large, "S1": small[0], "T2": small[1]}
    made = OfflineMonitor(Levels(), voters, rule, Levels())
    answers = answers_of(made, Session("a", (level(0.2), level(0.3))))
    assert [set(answer.votes) for answer in answers] == [{"S1", "T2"}, {"S1", "T2", "T1"}]
    assert large.seen == [("", "30")]


def test_a_new_session_knows_nothing_of_the_one_before() -> None:
    voter = Remembers()
    answers_of(monitor(S1=voter), Session("a", (level(0.2),)), Session("b", (level(0.3),)))
    assert voter.seen == [("", "20"), ("", "30")]


def test_given_words_take_the_place_of_heard_ones_and_the_same_is_heard_once() -> None:
    transcriber, voter = Levels(), Remembers()
    made = OfflineMonitor(transcriber, {"T2": voter}, Rule(), Levels())
    session = Session("a", (level(0.2), Segment(level(0.2).samples, words="I am so happy")))
    answers = answers_of(made, session, Session("b", (level(0.2),)))
    assert [answer.text for answer in answers] == ["20", "I am so happy", "20"]
    assert transcriber.calls == 1
    assert [answer.asr_cpu_s > 0 for answer in answers] == [True, False, False]


# --- measures -------------------------------------------------------------------------------------


def answer(
    truth: str = "",
    vote: str = "",
    s1: str = "",
    t2: str = "",
    seconds: float = 1.0,
    material: str = "m",
    **more: object,
) -> Answer:
    ballots = {name: Ballot(label) for name, label in (("S1", s1), ("T2", t2)) if label}
    fields: dict[str, object] = {
        "material": material, "session": 0, "speaker": "a", "tag": "", "truth": truth,
        "start": 0, "end": int(seconds * SAMPLE_RATE), "text": "", "ballots": ballots,
        "label": vote, "leading": vote,
    }  # fmt: skip
    return Answer(**(fields | more))  # type: ignore[arg-type]


def test_word_errors_are_counted_a_session_with_its_segments_joined() -> None:
    said = [
        answer(text="the cat", reference="The cat sat on the mat."),
        answer(text="sat on a mat"),
        answer(session=1, text="no reference"),
        answer(session=2, text="", reference="two words"),
    ]
    assert measures.word_errors(said) == (3, 8)
    assert measures.with_text(said) == 3 / 4


def test_what_is_called_otherwise_counts_neither_unknown_nor_abstentions() -> None:
    said = [
        answer("neutral", "unknown", "angry"),
        answer("neutral", "neutral"),
        answer("neutral", "sad", "sad"),
        answer("neutral", "unknown"),
    ]
    assert measures.share_not_neutral(said, "vote") == 0.25
    assert measures.share_not_neutral(said, "S1") == 0.5
    assert measures.accuracy(said, "vote") == 0.25


def test_macro_f1_of_known_answers() -> None:
    said = [
        answer("angry", "angry"),
        answer("angry", "unknown"),
        answer("sad", "sad"),
        answer("sad", "sad"),
    ] * 5
    found = measures.macro_f1(said, "vote")
    assert found.value == pytest.approx((2 / 3 + 1) / 2)
    assert found.low <= found.value <= found.high
    assert found.units == 20, "one speaker: clips are drawn"
    spread = [answer("sad", "sad", speaker=str(n % 8)) for n in range(16)]
    assert measures.macro_f1(spread, "vote").units == 8


def test_lengths_and_tags() -> None:
    said = [answer(seconds=s, tag=f"{s} s") for s in (0.5, 1.0, 1.9, 2.0, 4.0, 9.0)]
    found = {name: len(some) for name, some in measures.grouped(said, measures.length_of).items()}
    assert found == {"under 1 s": 1, "1 to 2 s": 2, "2 to 4 s": 1, "4 s and more": 2}
    assert list(measures.grouped(said, lambda answer: answer.tag)) == [
        "0.5 s",
        "1.0 s",
        "1.9 s",
        "2.0 s",
        "4.0 s",
        "9.0 s",
    ]


def test_the_delay_counts_from_the_change_to_the_end_of_the_first_segment_seen() -> None:
    second = SAMPLE_RATE

    def at(session: int, end: int, truth: str, vote: str) -> Answer:
        return answer(
            truth, vote, session=session, start=(end - 1) * second, end=end * second,
            change=5 * second,
        )  # fmt: skip

    said = [
        at(0, 3, "neutral", "sad"),  # before the change: a false alarm, not a detection
        at(0, 6, "angry", "neutral"),
        at(0, 8, "angry", "sad"),
        at(0, 9, "angry", "angry"),
        at(1, 6, "angry", "unknown"),
        at(2, 6, "angry", "angry"),
    ]
    assert tuple(measures.delay(said, "vote").values()) == (3, 2, 2.0)
    assert measures.delay(said, "vote", exact=True)["median_s"] == 2.5
    assert math.isnan(measures.delay(said, "S1")["median_s"])


def test_calibration_of_a_verdict_that_is_too_sure() -> None:
    said = [answer("sad", "sad" if n < 6 else "angry", confidence=0.9) for n in range(10)]
    assert measures.calibration_error(said) == pytest.approx(0.3)
    exact = [answer("sad", "sad" if n < 9 else "angry", confidence=0.9) for n in range(10)]
    assert measures.calibration_error(exact) == pytest.approx(0.0)
    both = [*said, *(answer("sad", "angry", confidence=0.1) for _ in range(10))]
    assert measures.calibration_error(both) == pytest.approx(0.2)
    assert math.isnan(measures.calibration_error([answer("sad", "sad")]))


def test_a_threshold_withholds_what_is_less_sure_and_gives_what_was_withheld() -> None:
    said = [
        answer("sad", "unknown", confidence=0.2, leading="sad"),
        answer("sad", "angry", confidence=0.5),
        answer("sad", "unknown", leading=""),  # nothing was decided
    ]
    assert [a.label for a in measures.withheld(said, 0.0)] == ["sad", "angry"]
    assert [a.label for a in measures.withheld(said, 0.4)] == ["unknown", "angry"]
    assert measures.labelled(measures.withheld(said, 0.4)) == 0.5


def test_voters_that_err_together_and_apart() -> None:
    together = [answer("sad", s1=s, t2=s) for s in ("sad", "angry", "sad", "angry")]
    assert list(measures.pairs(together, VOTERS)["S1, T2"].values()) == pytest.approx([1.0, 1.0])
    apart = [
        answer("sad", s1=s, t2="sad" if s == "angry" else "angry")
        for s in ("sad", "angry", "sad", "angry")
    ]
    assert list(measures.pairs(apart, VOTERS)["S1, T2"].values()) == pytest.approx([0.0, -1.0])
    only = [answer("sad", s1="sad")]
    assert measures.pairs(only, VOTERS) == {}


def test_the_vote_is_compared_with_its_best_member() -> None:
    labels = ("angry", "sad", "happy")
    said = [
        answer(truth, truth, s1=truth if n % 3 else "fear", t2="neutral")
        for n in range(60)
        for truth in labels
    ]
    best, compared = measures.against_best(said, VOTERS)
    assert best == "S1"
    assert compared["vote"].difference.low > 0
    doubtful = [replace(a, label="unknown") for a in said]
    _, compared = measures.against_best(doubtful, VOTERS)
    assert compared["vote"].difference.high < 0 < compared["what leads it"].difference.low
    calm = [answer("neutral", "neutral", s1="sad", t2="neutral") for _ in range(20)]
    best, compared = measures.against_best(calm, VOTERS)
    assert (best, compared["vote"].difference.value) == ("T2", 0.0)


def test_what_the_vote_would_be_without_a_voter() -> None:
    (found,) = answers_of(
        monitor(S1=Remembers({"20": "angry"}), T2=Remembers()), Session("a", (level(0.2),))
    )
    assert found.without == {"S1": "neutral", "T2": "angry"}
    right = [answer("angry", "angry", without={"S1": "angry", "T2": "sad"})] * 20
    assert measures.worth(right, "T2").value == 1.0
    assert measures.worth(right, "S1").value == 0.0


# --- sessions and material ------------------------------------------------------------------------


def test_a_conversation_has_its_clips_where_it_says_and_noise_under_all() -> None:
    clips = [
        (np.full(n, value, np.float32), label)
        for n, value, label in ((8_000, 0.2, "neutral"), (16_000, -0.3, "angry"))
    ]
    noise = np.random.default_rng(0).standard_normal(5_000).astype(np.float32)
    samples, (first, second) = compose(clips, noise, np.random.default_rng(1), (0.5, 1.0), 20.0)
    assert (first.name, second.name) == ("neutral", "angry")
    assert 0.5 <= first.start / SAMPLE_RATE <= 1.0
    assert 0.5 <= (second.start - first.end) / SAMPLE_RATE <= 1.0
    assert samples[first.start : first.end].mean() == pytest.approx(0.2, abs=0.01)
    assert samples[second.start : second.end].mean() == pytest.approx(-0.3, abs=0.01)
    speech = np.mean(np.concatenate([part for part, _ in clips]) ** 2)
    gap = samples[: first.start]
    assert 10 * np.log10(speech / np.mean(gap**2)) == pytest.approx(20.0, abs=1.0)


def test_a_segment_is_of_the_turn_that_most_of_it_lies_in() -> None:
    turns = (Placed(100, 200, "neutral"), Placed(300, 400, "angry"))
    assert truth_of(150, 340, turns) == "neutral"
    assert truth_of(170, 380, turns) == "angry"
    assert truth_of(210, 290, turns) == ""


def test_the_loudest_stretch_is_found() -> None:
    samples = np.array([0, 1, 0, 3, 3, 0], np.float32)
    assert loudest(samples, 2).tolist() == [3, 3]
    assert loudest(samples, 6).tolist() == samples.tolist()
    assert loudest(samples, 7) is None


def test_a_clip_without_speech_stays_whole() -> None:
    clip = np.zeros(SAMPLE_RATE, np.float32)
    assert len(Cutter().spoken(clip)) == len(clip)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """An actor with 16 neutral and 8 angry clips of 3 s, each at a level of its own."""
    lines = ["path,corpus,kind,speaker,label8,suggested_split"]
    lines += [
        f"{n:02}.opus,ravdess,speech,r17,{'neutral' if n < 16 else 'angry'},dev" for n in range(24)
    ]
    lines += ["x.opus,ravdess,speech,r1,sad,train", "y.opus,nemo,speech,n1,sad,dev"]
    (tmp_path / "speech.csv").write_text("\n".join(lines))

    def read(path: Path) -> np.ndarray:
        stem = path.stem
        return level((int(stem) + 2) / 100 if stem.isdigit() else 0.3, 3.0).samples

    monkeypatch.setattr("abhinaya.bench.quality.acted.read", read)
    return Source(tmp_path)


def test_each_acted_clip_is_scored_once_and_never_warms_its_own_session(corpus: Source) -> None:
    sessions = list(clips(corpus, "ravdess"))
    assert len(sessions) == 2
    assert all(session.apart for session in sessions)
    scored = [float(s.samples[0]) for session in sessions for s in session.segments]
    assert len(scored) == len(set(scored)) == 24
    for session in sessions:
        own = {float(s.samples[0]) for s in session.segments}
        assert not own & {float(s.samples[0]) for s in session.warm}
        truths = [segment.truth for segment in session.warm]
        assert (truths.count("neutral"), truths.count("angry")) == (5, 1)
    (learnt, _) = clips(corpus, "ravdess", "train")
    assert learnt.speaker == "r1", "of the other split"
    again = list(clips(corpus, "ravdess"))
    assert [[s.truth for s in one.warm] for one in again] == [
        [s.truth for s in one.warm] for one in sessions
    ]


def test_pieces_are_cut_from_emotional_clips_alone(corpus: Source) -> None:
    made = [session for session in pieces(corpus) if session.speaker == "r17"]
    found = [(s.tag, len(s.samples), s.truth) for session in made for s in session.segments]
    assert {(tag, length) for tag, length, _ in found} == {
        ("1 s", 16_000), ("1.5 s", 24_000), ("2 s", 32_000),
    }  # fmt: skip
    assert {truth for _, _, truth in found} == {"angry"}
    assert len(found) == 3 * 8


# --- the table and the command --------------------------------------------------------------------


def test_rows_of_known_answers_and_their_table(capsys: pytest.CaptureFixture[str]) -> None:
    heard = {
        "RAVDESS": [answer(t, t, s1=t, t2="neutral", text="x") for t in ("angry", "sad")] * 9,
        "calls": [answer("neutral", "sad", "sad", "neutral", seconds=s) for s in (0.5, 5.0)],
        "noise": [answer(text="so", unguarded="so"), answer(unguarded="thanks for all"), answer()],
        "guards, calls": [answer(text="so", unguarded="so")],
    }
    rows = rows_of(heard, VOTERS)
    by_name = {(row.section.split(":")[0], row.name): row for row in rows}
    assert by_name["acted speakers", "RAVDESS"].values["vote"].value == 1.0
    assert by_name["nobody moved", "calls"].values == {"S1": 1.0, "T2": 0.0, "vote": 1.0}
    assert by_name["nobody moved", "  calls, under 1 s"].n == 1
    guarded = {"some text": 2, "believed": 1, "share given words": 1 / 3, "words dropped": 3 / 4}
    assert by_name["what guards drop", "noise and bursts"].values == guarded
    assert by_name["what guards drop", "speech"].values["words dropped"] == 0.0
    assert by_name["minus best member [95 %]", "calls: T2"].values["vote"].value == -1.0
    written = json.loads(json.dumps(as_json(rows)))
    assert written[0]["n"] > 0
    assert len(tables_of(rows)) == len({row.section for row in rows})


def test_materials_are_chosen_by_their_beginning_and_a_wrong_name_is_refused() -> None:
    names = [one.name for one in command.choose(MATERIALS, ["RAVDESS", "calls"])]
    assert names[0] == "RAVDESS"
    assert "RAVDESS, clip alone" in names
    assert names[-1] == "calls"
    assert {m.kind for m in command.choose(MATERIALS, ["words"])} == {"words"}
    assert command.choose(MATERIALS, []) == list(MATERIALS)
    with pytest.raises(ConfigError, match="did you mean 'calls'"):
        command.choose(MATERIALS, ["cals"])


def test_the_command_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sessions(source: Source):
        segments = (level(0.2, truth="neutral"), level(0.3, truth="neutral"))
        yield Session("a", segments, reference="20 30")

    fake = OfflineMonitor(
        Levels(), {name: Remembers() for name in load("embedded").voters}, Rule(), Levels()
    )
    monkeypatch.setattr(command, "MATERIALS", (Material("calls", sessions),))
    monkeypatch.setattr(OfflineMonitor, "load", classmethod(lambda cls, config: fake))
    out = tmp_path / "quality.json"
    flags = ["--data", str(tmp_path), "--json", str(out)]
    assert command.main(flags) == 0
    printed = capsys.readouterr()
    assert "calls: 2 segments" in printed.err
    assert "nobody moved" in printed.out
    rows = json.loads(out.read_text())["figures"]["rows"]
    assert any(row["name"] == "calls" and row["n"] == 2 for row in rows)


def test_words_are_counted_by_corpus_and_together() -> None:
    sessions = (
        Session("x", (level(0.2), level(0.3)), reference="20 30"),
        Session("y", (level(0.4),), reference="forty one"),
    )
    rows = rows_of({"all podcasts": answers_of(monitor(), *sessions, kind="words")}, ())
    assert [(row.name, row.n, row.values["errors a word"]) for row in rows] == [
        ("x", 2, 0.0), ("y", 1, 1.0), ("all podcasts", 3, 1 / 3),
    ]  # fmt: skip
    assert rows[2].values["seconds"] == 3


def test_what_nothing_is_dropped_from_is_asked_for_noise_alone() -> None:
    transcriber, everything = Levels(), Levels()
    made = OfflineMonitor(transcriber, {"S1": Remembers()}, Rule(), everything)
    (heard,) = answers_of(made, Session("a", (level(0.2),)), kind="noise")
    assert (heard.text, heard.unguarded, heard.label) == ("20", "20", "")
    answers_of(made, Session("a", (level(0.3),)))
    assert (transcriber.calls, everything.calls) == (2, 1)


def test_missing_data_is_said_with_a_remedy(tmp_path: Path) -> None:
    source = Source(tmp_path)
    for one in MATERIALS:
        with pytest.raises(Exception, match="--data") as raised:
            list(one.sessions(source))
        assert type(raised.value).__name__ in ("ConfigError", "SourceError")


def test_dense_speech_has_the_same_words_cut_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [Read(f"u{n}", np.full(n * 16_000, 0.1, np.float32), f"word {n}") for n in (1, 2, 3)]
    monkeypatch.setattr(material, "clips_in", lambda _: [])
    monkeypatch.setattr(material, "utterances", lambda _: made)
    source = SimpleNamespace(data=Path(), most=lambda _: 2, cut=lambda samples: (Segment(samples),))
    cut, whole = (list(material.dense_speech(flag, source)) for flag in (False, True))
    assert [one.reference for one in cut] == [one.reference for one in whole]
    assert cut[0].reference != cut[1].reference, "every stream has an order of its own"
    for one, other in zip(cut, whole, strict=True):
        spoken = [len(segment.samples) // 16_000 for segment in other.segments]
        assert one.reference == " ".join(f"word {n}" for n in spoken)
        assert len(one.segments[0].samples) == pytest.approx(330 * 16_000, rel=0.05)
