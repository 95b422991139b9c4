from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from sounds import buzz, hiss
from tiny_heads import SETTINGS, write_heads

from abhinaya.models import sums
from abhinaya.models.asr import carrier
from abhinaya.models.base import Abstention, Ballot, Utterance
from abhinaya.models.errors import DamagedFileError, LabelsError, MissingFileError
from abhinaya.models.labels import LABELS
from abhinaya.models.registry import load
from abhinaya.models.tiny.encoder import LEVELS, WIDTH, shared
from abhinaya.models.tiny.head import Head
from abhinaya.models.tiny.metadata import METADATA_KEY
from abhinaya.models.tiny.speech import (
    FINE,
    JOINT,
    SPEECH,
    TOO_LITTLE,
    WORDS,
    TinyJoint,
    TinySpeech,
    word_features,
)
from abhinaya.models.tiny.voice import Voice
from abhinaya.train.tiny.cards import write_card
from abhinaya.train.tiny.speech import NEUTRAL, SPEECH_LABELS, Trained


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinySpeech, Trained]:
    path, trained = write_heads(tmp_path_factory.mktemp("speech"))
    return TinySpeech(str(path)), trained


@pytest.fixture(scope="module")
def speech(made: tuple[TinySpeech, Trained]) -> TinySpeech:
    return made[0]


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> TinyJoint:
    return TinyJoint(str(write_heads(tmp_path_factory.mktemp("joint"), JOINT, words=True)[0]))


def heard(voter: TinySpeech | TinyJoint, samples: np.ndarray, **more: object) -> Ballot:
    (answer,) = voter.vote([Utterance(samples, **more)])
    assert isinstance(answer, Ballot)
    assert answer.probabilities is not None
    return answer


# --- what was fitted beside the network -----------------------------------------------------------


def test_probabilities_lean_to_calm_by_the_seconds() -> None:
    scores = np.zeros(len(SPEECH_LABELS), np.float32)
    scores[0] = 8.0
    nothing, half, enough, more = (
        SETTINGS.probabilities(scores, seconds, NEUTRAL) for seconds in (0.0, 1.0, 2.0, 9.0)
    )
    assert nothing[NEUTRAL] == pytest.approx(0.9)
    np.testing.assert_allclose(np.delete(nothing, NEUTRAL), 0.1 / 6, rtol=1e-5)
    np.testing.assert_allclose(half, (nothing + enough) / 2, rtol=1e-5)
    np.testing.assert_array_equal(enough, more)
    assert enough.argmax() == 0
    for found in (nothing, half, enough):
        assert found.sum() == pytest.approx(1.0)


def test_temperature_and_bias_by_hand() -> None:
    scores = np.arange(7, dtype=np.float32)
    found = SETTINGS.probabilities(scores, 2.0, NEUTRAL)
    powers = np.exp((scores + 0.5 * (np.arange(7) == NEUTRAL)) / 2.0)
    np.testing.assert_allclose(found, powers / powers.sum(), rtol=1e-5)


# --- S1 -------------------------------------------------------------------------------------------


def test_it_answers_what_the_trained_network_answers(made: tuple[TinySpeech, Trained]) -> None:
    speech, trained = made
    samples = buzz(180, 2.5)
    levels = shared(carrier.find("tiny.en")).encode(samples)
    trained = replace(trained, heads=[as_kept(head) for head in trained.heads])
    scores = trained.scores(levels.transpose(1, 0, 2), Voice(trained.usual), None)
    expected = SETTINGS.probabilities(scores, 2.5, NEUTRAL)
    found = heard(speech, samples).probabilities
    assert found is not None
    assert found[LABELS.index("contempt")] == 0.0
    of_seven = [found[LABELS.index(label)] for label in SPEECH_LABELS]
    np.testing.assert_allclose(of_seven, expected, atol=1e-5)


def as_kept(head: Head) -> Head:
    """Return a head with its weights rounded to half precision, as a file keeps them."""
    return Head({k: v.astype(np.float16).astype(np.float32) for k, v in head.weights.items()})


def test_its_state_is_the_mean_of_what_it_heard(made: tuple[TinySpeech, Trained]) -> None:
    speech, trained = made
    first, second = buzz(150, 1.0), buzz(250, 3.0)
    state = heard(speech, first).state
    voice = Voice.of(heard(speech, second, state=state).state, trained.usual)
    assert voice.seconds == 4.0
    encoder = shared(carrier.find("tiny.en"))
    means = [encoder.encode(samples).mean(axis=1) for samples in (first, second)]
    np.testing.assert_allclose(voice.mean, (means[0] + 3 * means[1]) / 4, atol=2e-2)


def test_an_answer_depends_on_the_voice_and_on_nothing_else(speech: TinySpeech) -> None:
    samples = buzz(180, 2.0)
    alone = heard(speech, samples)
    after = heard(speech, samples, state=heard(speech, hiss(5.0)).state)
    assert after.probabilities != pytest.approx(alone.probabilities, abs=1e-4)
    assert heard(speech, samples) == alone
    damaged = heard(speech, samples, state=b"of another model")
    assert damaged == alone
    others = [Utterance(hiss(1.0)), Utterance(samples), Utterance(buzz(90, 4.0))]
    assert speech.vote(others)[1] == alone


def test_too_little_speech_is_said_and_the_voice_kept(speech: TinySpeech) -> None:
    state = heard(speech, buzz(150, 3.0)).state
    nothing = [np.full(n, x, np.float32) for n, x in ((0, 0), (16_000, 0), (16_000, np.nan))]
    for samples in (buzz(200, 0.1), buzz(200, 0.49), *nothing):
        (answer,) = speech.vote([Utterance(samples, state=state)])
        assert answer == Abstention(TOO_LITTLE, state=state)
    samples = buzz(200, 1.0)
    samples[500:900] = np.nan
    answer = heard(speech, samples)
    assert np.isfinite(answer.probabilities or ()).all()
    assert heard(speech, buzz(200, 1.0), state=answer.state).state != answer.state


def test_the_card_counts_the_weights_and_says_that_there_is_no_card_file(
    speech: TinySpeech, made: tuple[TinySpeech, Trained]
) -> None:
    card = speech.card
    assert card.parameters == sum(w.size for head in made[1].heads for w in head.weights.values())
    assert card.stateful
    assert card.needs == {"audio"}
    assert set(card.labels) == set(LABELS) - {"contempt"}
    assert card.licence == "not stated"


@pytest.mark.parametrize(
    "samples",
    [hiss(10.0), hiss(10.0, gain=1.0), buzz(440, 10.0), buzz(220, 0.5), np.full(8_000, 1.0, "f4")],
    ids=["noise", "loud noise", "a tone", "the shortest", "one level"],
)
@pytest.mark.parametrize("model", [SPEECH, JOINT])
def test_what_ships_answers_to_anything_with_numbers(model: str, samples: np.ndarray) -> None:
    (answer,) = load(model).vote([Utterance(samples, transcript="oh")])
    assert isinstance(answer, Ballot)
    assert answer.probabilities is not None
    assert sum(answer.probabilities) == pytest.approx(1.0, abs=1e-4)
    assert min(answer.probabilities) >= 0.0
    assert Voice.of(answer.state, np.zeros((len(LEVELS), WIDTH), np.float32)).seconds > 0.0


# --- ST1 ------------------------------------------------------------------------------------------


def test_words_change_an_answer_and_their_absence_is_another_one(joint: TinyJoint) -> None:
    samples = buzz(180, 2.0)
    said = (("I am so happy", ""), ("I am so sad", "en"), ("", ""), ("so traurig", "de"))
    happy, sad, none, german = (
        heard(joint, samples, transcript=text, language=language).probabilities
        for text, language in said
    )
    assert happy != pytest.approx(sad, abs=1e-5)
    assert happy != pytest.approx(none, abs=1e-5)
    assert german == none
    assert joint.card.needs == {"audio", "transcript"}


def test_word_features_are_centred_scores_and_a_one() -> None:
    fine = np.arange(2 * FINE, dtype=np.float32).reshape(2, FINE)
    found = word_features(fine)
    assert found.shape == (2, WORDS)
    np.testing.assert_allclose(found[:, :FINE].sum(axis=1), 0.0, atol=1e-5)
    np.testing.assert_allclose(np.diff(found[0, :FINE]), 0.2, rtol=1e-4)
    assert found[:, FINE].tolist() == [1.0, 1.0]


# --- bad files ------------------------------------------------------------------------------------


def test_a_file_cut_off_or_of_the_other_voter_is_refused(tmp_path: Path) -> None:
    path, _ = write_heads(tmp_path)
    whole = path.read_bytes()
    for keep in (0, 5, 200, -10):
        path.write_bytes(whole[:keep])
        with pytest.raises(DamagedFileError, match=r"tiny-speech\.safetensors"):
            TinySpeech(str(path))
    path, _ = write_heads(tmp_path, JOINT, words=True)
    with pytest.raises(DamagedFileError, match="holds the model 'tiny-joint', not 'tiny-speech'"):
        TinySpeech(str(path))


SAID = '{"model": "tiny-speech", "version": "1", "labels": ["neutral", "sad"], "settings": {}}'


@pytest.mark.parametrize(
    ("told", "error", "message"),
    [
        (None, DamagedFileError, "has no complete metadata"),
        ("{", DamagedFileError, "has no complete metadata"),
        (SAID, DamagedFileError, "made for another version"),
        (SAID.replace("sad", "glee"), LabelsError, "has the labels glee"),
    ],
)
def test_what_a_file_says_is_checked(
    told: str | None, error: type[Exception], message: str, tmp_path: Path
) -> None:
    path, _ = write_heads(tmp_path)
    save_file(load_file(path), path, {METADATA_KEY: told} if told is not None else None)
    with pytest.raises(error, match=message):
        TinySpeech(str(path))


def changed(path: Path, **tensors: np.ndarray | None) -> Path:
    """Write a file of the same metadata with other tensors, or without them."""
    with safe_open(path, "np") as file:
        metadata = file.metadata()
    together = {**load_file(path), **{name.replace("__", "/"): x for name, x in tensors.items()}}
    save_file({name: x for name, x in together.items() if x is not None}, path, metadata)
    return path


HALF = np.float16


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"usual": np.zeros((1, WIDTH), np.float32)}, "usual of shape"),
        ({"unit": np.zeros((len(LEVELS), WIDTH), np.float32)}, "a unit of 0"),
        ({"0__out.weight": None}, "out.weight"),
        ({"0__hidden.weight": np.zeros((5, 3), HALF)}, "made for another version"),
        ({"1__out.weight": np.zeros((7, 3), HALF)}, "made for another version"),
        ({"0__out.weight": np.zeros((3, 5), HALF), "0__out.bias": np.zeros(3, HALF)}, "version"),
        ({"0__out.bias": np.full(7, np.nan, HALF)}, "weights that are not numbers"),
        ({"usual": np.full((len(LEVELS), WIDTH), np.inf, np.float32)}, "that are not numbers"),
    ],
)
def test_weights_that_do_not_fit_are_refused_when_they_are_loaded(
    tensors: dict[str, np.ndarray | None], message: str, tmp_path: Path
) -> None:
    path = changed(write_heads(tmp_path)[0], **tensors)
    with pytest.raises(DamagedFileError, match=message):
        TinySpeech(str(path))


def test_one_changed_byte_is_noticed(tmp_path: Path) -> None:
    path, _ = write_heads(tmp_path)
    sums.record(path)
    card = write_card(path, "tiny-speech", "1", made_by="a test")
    assert TinySpeech(str(path)).card.licence == "CC-BY-NC-SA-4.0"
    whole = bytearray(path.read_bytes())
    whole[-1_000] ^= 1
    path.write_bytes(whole)
    os.utime(path, ns=(1, 1))  # an unchanged file is read only once
    with pytest.raises(DamagedFileError, match=r"SHA-256 begins .*abhinaya train tiny-speech"):
        TinySpeech(str(path))
    with pytest.raises(MissingFileError, match="abhinaya train tiny-speech"):
        load("tiny-speech", {"weights": str(tmp_path / "none.safetensors")})
    path.with_name("SHA256SUMS").unlink()
    TinySpeech(str(path))
    card.write_text("{")
    with pytest.raises(DamagedFileError, match=r"tiny-speech\.json: this card cannot be read"):
        _ = TinySpeech(str(path)).card
