from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from abhinaya.models.base import Abstention, Ballot, Utterance, Voter
from abhinaya.models.compact.features import SAMPLE_RATE
from abhinaya.models.compact.heard import Heard, Measured
from abhinaya.models.compact.running import SpeechStatistics
from abhinaya.models.errors import DamagedFileError, LabelsError, MissingFileError
from abhinaya.models.labels import LABELS
from abhinaya.models.registry import load

NAMES = ("compact-speech", "compact-text", "compact-joint")
WEIGHTS = Path(__file__).parents[3] / "models" / "compact" / "weights"


def utterance(seconds: float, words: str = "well i never", seed: int = 0) -> Utterance:
    rng = np.random.default_rng(seed)
    n = int(seconds * SAMPLE_RATE)
    loudness = 0.05 + np.abs(np.sin(np.arange(n) * (2 * np.pi * 2.0 / SAMPLE_RATE)))
    samples = (0.1 * loudness * rng.standard_normal(n)).astype(np.float32)
    statistics = SpeechStatistics()
    statistics.update(samples)
    return Measured(samples, heard=statistics.heard(), transcript=words)


@pytest.fixture(scope="module")
def voters() -> dict[str, Voter]:
    return {name: load(name) for name in NAMES}


def probabilities(answer: Ballot | Abstention) -> np.ndarray:
    assert isinstance(answer, Ballot)
    assert answer.probabilities is not None
    return np.array(answer.probabilities)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_gives_what_each_gives_alone(name: str, voters: dict[str, Voter]) -> None:
    batch = [
        utterance(5.0, "so glad you came"),
        utterance(0.3, "no", seed=1),
        utterance(2.217, "what is this doing here at all i hate it so much", seed=2),
    ]
    together = voters[name].vote(batch)
    for one, answer in zip(batch, together, strict=True):
        (alone,) = voters[name].vote([one])
        np.testing.assert_allclose(probabilities(alone), probabilities(answer), atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_ballots_are_probabilities_over_the_eight(name: str, voters: dict[str, Voter]) -> None:
    (answer,) = voters[name].vote([utterance(2.0)])
    found = probabilities(answer)
    assert found.shape == (len(LABELS),)
    assert found.sum() == pytest.approx(1.0, abs=1e-5)
    lacking = [LABELS.index(label) for label in set(LABELS) - set(voters[name].card.labels)]
    assert not found[lacking].any()


@pytest.mark.parametrize("name", ["compact-speech", "compact-joint"])
@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(0, np.float32), "only 0.00 s of audio"),
        (np.full(3_000, 0.1, np.float32), "only 0.19 s of audio"),
        (np.zeros(SAMPLE_RATE, np.float32), "silent"),
        (np.full(SAMPLE_RATE, np.nan, np.float32), "not numbers"),
        (np.full(SAMPLE_RATE, np.inf, np.float32), "not numbers"),
    ],
)
def test_audio_that_cannot_be_heard_abstains_and_the_others_vote(
    name: str, samples: np.ndarray, reason: str, voters: dict[str, Voter]
) -> None:
    good = utterance(1.0)
    broken, answer = voters[name].vote([Utterance(samples, transcript="hello"), good])
    assert isinstance(broken, Abstention)
    assert reason in broken.reason
    (alone,) = voters[name].vote([good])
    np.testing.assert_allclose(probabilities(answer), probabilities(alone), atol=1e-4)
    assert isinstance(voters[name].vote([Utterance(samples)])[0], Abstention)


@pytest.mark.parametrize("words", ["", "  ", "?!"])
def test_no_words_is_an_abstention_of_the_text_voter_alone(
    words: str, voters: dict[str, Voter]
) -> None:
    silent, spoken = utterance(1.0, words), utterance(1.0, "i am so sorry")
    first, second = voters["compact-text"].vote([silent, spoken])
    assert first == Abstention("no words recognised")
    assert isinstance(second, Ballot)
    assert isinstance(voters["compact-joint"].vote([silent])[0], Ballot)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_batch_has_no_answers(name: str, voters: dict[str, Voter]) -> None:
    assert voters[name].vote([]) == []


def test_the_joint_voter_listens_to_both(voters: dict[str, Voter]) -> None:
    angry, glad = "i hate you you disgusting idiot", "thank you so much i love it"
    rows = [
        probabilities(a)
        for a in voters["compact-joint"].vote(
            [utterance(2.0, angry), utterance(2.0, glad), utterance(2.0, glad, seed=9)]
        )
    ]
    assert np.abs(rows[0] - rows[1]).max() > 0.02
    assert np.abs(rows[1] - rows[2]).max() > 1e-4


@pytest.mark.parametrize(
    ("words", "label"),
    [
        ("thank you so much that was wonderful", "happy"),
        ("i am so scared of the dark", "fear"),
        ("im so sad and lonely i could cry", "sad"),
        ("wow i cannot believe it what a surprise", "surprise"),
        ("you are a fucking idiot and i hate you", "angry"),
    ],
)
def test_plain_words_have_their_label(words: str, label: str, voters: dict[str, Voter]) -> None:
    (answer,) = voters["compact-text"].vote([Utterance(np.zeros(0, np.float32), transcript=words)])
    assert isinstance(answer, Ballot)
    assert answer.label == label


def test_what_was_heard_decides_the_normalisation(voters: dict[str, Voter]) -> None:
    one = utterance(1.0)
    assert one.heard is not None
    other = Heard(one.heard.frames, one.heard.mean - 3.0, one.heard.std)
    same, moved = voters["compact-speech"].vote([one, Measured(one.samples, heard=other)])
    assert np.abs(probabilities(same) - probabilities(moved)).max() > 1e-3


def test_without_statistics_it_normalises_by_the_utterance(voters: dict[str, Voter]) -> None:
    one = utterance(1.0)
    with_own, without = voters["compact-speech"].vote([one, Utterance(one.samples)])
    np.testing.assert_allclose(probabilities(with_own), probabilities(without), atol=1e-4)


def test_statistics_of_another_size_are_refused(voters: dict[str, Voter]) -> None:
    wrong = Heard(10, np.zeros(80, np.float32), np.ones(80, np.float32))
    with pytest.raises(ValueError, match="values of a frame"):
        voters["compact-speech"].vote([Measured(utterance(1.0).samples, heard=wrong)])


@pytest.mark.parametrize("name", NAMES)
def test_card_says_what_the_weights_are(name: str, voters: dict[str, Voter]) -> None:
    card = voters[name].card
    assert card.model == name
    assert (
        card.needs
        == {
            "compact-speech": {"audio"},
            "compact-text": {"transcript"},
            "compact-joint": {"audio", "transcript"},
        }[name]
    )
    assert card.noncommercial == (name != "compact-text")
    assert card.licence == ("Apache-2.0" if name == "compact-text" else "CC-BY-NC-SA-4.0")
    assert any("contempt" in note for note in card.notes)
    told = json.loads((WEIGHTS / f"{name}.json").read_text(encoding="utf-8"))
    assert told["figures"]


@pytest.mark.parametrize("name", NAMES)
def test_weights_stay_under_five_megabytes(name: str) -> None:
    assert (WEIGHTS / f"{name}.onnx").stat().st_size < 5_000_000


def test_missing_weights_name_path_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"nowhere\.onnx.*abhinaya train compact-speech"):
        load("compact-speech", {"weights": str(tmp_path / "nowhere.onnx")})


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x00" * 100])
def test_a_file_that_is_no_network_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "foreign.onnx"
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"foreign\.onnx"):
        load("compact-text", {"weights": str(path)})


def test_weights_of_another_model_are_refused_by_name() -> None:
    with pytest.raises(DamagedFileError, match="'compact-text', not 'compact-speech'"):
        load("compact-speech", {"weights": str(WEIGHTS / "compact-text.onnx")})


needs_onnx = pytest.mark.skipif(
    importlib.util.find_spec("onnx") is None, reason="onnx (extra `train`) is not installed"
)


def rewritten(tmp_path: Path, model: str = "compact-speech", **changes: object) -> str:
    """The bundled weights of a model with other metadata."""
    import onnx

    graph = onnx.load(str(WEIGHTS / f"{model}.onnx"))
    (entry,) = [e for e in graph.metadata_props if e.key == "abhinaya"]
    entry.value = json.dumps({**json.loads(entry.value), **changes})
    path = tmp_path / "rewritten.onnx"
    onnx.save(graph, str(path))
    return str(path)


@needs_onnx
def test_weights_that_are_fed_otherwise_are_refused(tmp_path: Path) -> None:
    import onnx

    graph = onnx.load(str(WEIGHTS / "compact-speech.onnx"))
    (given,) = [one for one in graph.graph.input if one.name == "features"]
    width = given.type.tensor_type.shape.dim[-1]
    told = f"takes features of {width.dim_value - 4} numbers, and this one gives {width.dim_value}"
    width.dim_value -= 4
    path = tmp_path / "older.onnx"
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(DamagedFileError, match=told):
        load("compact-speech", {"weights": str(path)})


@needs_onnx
def test_labels_are_placed_by_name_not_by_order(tmp_path: Path, voters: dict[str, Voter]) -> None:
    labels = list(voters["compact-speech"].card.labels)
    turned = load("compact-speech", {"weights": rewritten(tmp_path, labels=labels[::-1])})
    one = utterance(1.0)
    (right,), (other,) = voters["compact-speech"].vote([one]), turned.vote([one])
    for label, mirror in zip(labels, labels[::-1], strict=True):
        a, b = probabilities(right)[LABELS.index(label)], probabilities(other)[LABELS.index(mirror)]
        assert a == pytest.approx(b, abs=1e-6)


@needs_onnx
@pytest.mark.parametrize("labels", [["glee", "angry"], ["angry", "angry"]])
def test_labels_that_are_not_ours_are_refused(labels: list[str], tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match=r"they must be some of angry, contempt"):
        load("compact-speech", {"weights": rewritten(tmp_path, labels=labels)})


@needs_onnx
@pytest.mark.parametrize("settings", [{"buckets": 8}, {"vocabulary": ["a", "b"]}])
@pytest.mark.parametrize("model", ["compact-text", "compact-joint"])
def test_weights_that_do_not_say_their_word_pieces_are_refused(
    model: str, settings: dict[str, object], tmp_path: Path
) -> None:
    with pytest.raises(DamagedFileError, match=rf"no word pieces .*abhinaya train {model}"):
        load(model, {"weights": rewritten(tmp_path, model, settings=settings)})


def test_voters_run_without_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from abhinaya.models.base import Utterance\n"
        "from abhinaya.models.registry import load\n"
        "rng = np.random.default_rng(0)\n"
        "one = Utterance(rng.standard_normal(16000).astype(np.float32), transcript='hello there')\n"
        f"for name in {NAMES!r}: load(name).vote([one])\n"
        "print(*[m for m in ('torch', 'transformers', 'scipy') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_features_import_neither_torch_nor_onnxruntime() -> None:
    code = (
        "import sys\n"
        "import abhinaya.models.compact.features, abhinaya.models.compact.running\n"
        "import abhinaya.models.compact.manner, abhinaya.models.compact.measure\n"
        "print(*[m for m in ('torch', 'onnxruntime', 'scipy', 'av') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
