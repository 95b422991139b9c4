"""Checkpoints of transformers as voters, on tiny random ones saved as the Hub has them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_checkpoints import ROBERTA, WAVLM
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    HubertConfig,
    HubertForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
)

from abhinaya.models.base import Abstention, Utterance
from abhinaya.models.errors import KeysError, LabelsError, MissingFileError, OptionsError
from abhinaya.models.labels import FOREIGN_ORDERS, LABELS
from abhinaya.models.published.classifiers import TextClassifier
from abhinaya.models.registry import load

CPU = {"device": "cpu", "dtype": "float32"}


def named(order: str) -> dict[str, dict]:
    names = FOREIGN_ORDERS[order]
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: i for i, name in enumerate(names)},
    }


def convolutional(kind: str, norm: str):
    config_class, model_class = {
        "wav2vec2": (Wav2Vec2Config, Wav2Vec2ForSequenceClassification),
        "hubert": (HubertConfig, HubertForSequenceClassification),
    }[kind]
    norms = {"feat_extract_norm": norm, "do_stable_layer_norm": norm == "layer"}
    config = config_class(**(WAVLM | norms), classifier_proj_size=16, **named("superb-4"))
    return model_class(config), Wav2Vec2FeatureExtractor(do_normalize=True)


def whisper(order: str = "challenge-baseline"):
    config = WhisperConfig(
        d_model=16,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=24,
        classifier_proj_size=16,
        **named(order),
    )
    return WhisperForAudioClassification(config), WhisperFeatureExtractor()


KINDS = {
    "wav2vec2-large": lambda: convolutional("wav2vec2", "layer"),
    "wav2vec2-base": lambda: convolutional("wav2vec2", "group"),
    "hubert-base": lambda: convolutional("hubert", "group"),
    "whisper": whisper,
}


@pytest.fixture
def saved(tmp_path, shaken):
    def build(kind: str) -> Path:
        model, extractor = KINDS[kind]()
        shaken(model).save_pretrained(tmp_path / kind)
        extractor.save_pretrained(tmp_path / kind)
        return tmp_path / kind

    return build


def table(answers) -> np.ndarray:
    return np.array([answer.probabilities for answer in answers])


# --- speech -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_speech_batches_of_mixed_lengths_equal_their_singles(kind, saved, speech) -> None:
    voter = load("audio-classification", {"model": str(saved(kind)), **CPU})
    segments = [Utterance(speech(n, i)) for i, n in enumerate((16_000, 30_123, 16_000, 9_999))]
    answers = voter.vote(segments)
    singles = [voter.vote([segment])[0] for segment in segments]
    voted = [i for i, answer in enumerate(answers) if not isinstance(answer, Abstention)]
    assert [type(answer) for answer in answers] == [type(answer) for answer in singles]
    assert len(voted) > 1
    found, alone = table([answers[i] for i in voted]), table([singles[i] for i in voted])
    assert np.abs(found - alone).max() < 1e-5
    assert np.ptp(found, axis=0).max() > 1e-3
    assert voter.card.needs == {"audio"}


def test_four_classes_come_out_under_their_labels(saved, speech) -> None:
    """The scores are the model's own, in the order of its names: neu, hap, ang, sad."""
    folder = saved("wav2vec2-large")
    voter = load("audio-classification", {"model": str(folder), **CPU})
    wave = speech(12_000)
    model = Wav2Vec2ForSequenceClassification.from_pretrained(folder).eval()
    values = Wav2Vec2FeatureExtractor.from_pretrained(folder)(
        wave, sampling_rate=16_000, return_tensors="pt"
    )
    with torch.no_grad():
        neu, hap, ang, sad = model(values.input_values).logits[0].softmax(-1).tolist()
    found = dict(zip(LABELS, voter.vote([Utterance(wave)])[0].probabilities, strict=True))
    expected = {"neutral": neu, "happy": hap, "angry": ang, "sad": sad}
    assert {k: found[k] for k in expected} == pytest.approx(expected, abs=1e-5)
    assert found["contempt"] == 0
    assert voter.card.labels == ("angry", "happy", "neutral", "sad")
    assert "cannot say contempt" in voter.card.notes


def test_a_class_outside_the_eight_abstains(tmp_path, shaken, speech) -> None:
    model, extractor = whisper("vox-profile-9")
    shaken(model)
    with torch.no_grad():
        model.classifier.bias.zero_()[FOREIGN_ORDERS["vox-profile-9"].index("Other")] = 50.0
    model.save_pretrained(tmp_path)
    extractor.save_pretrained(tmp_path)
    voter = load("audio-classification", {"model": str(tmp_path), **CPU})
    answer = voter.vote([Utterance(speech(8_000))])[0]
    assert isinstance(answer, Abstention)
    assert "'Other'" in answer.reason


def test_speech_refusals(saved, tmp_path, speech) -> None:
    folder = saved("wav2vec2-large")
    voter = load("audio-classification", {"model": str(folder), **CPU})
    assert isinstance(voter.vote([Utterance(speech(399))])[0], Abstention)
    Wav2Vec2FeatureExtractor(sampling_rate=8_000).save_pretrained(folder)
    with pytest.raises(OptionsError, match="needs 8000 Hz"):
        load("audio-classification", {"model": str(folder), **CPU})
    with pytest.raises(MissingFileError, match="does not exist"):
        load("audio-classification", {"model": "/nowhere/model", **CPU})


# --- text -------------------------------------------------------------------------------


@pytest.fixture
def text_model(tmp_path, shaken):
    def build(order: str = "ekman-7", decoder: bool = False, **more) -> Path:
        specials = ["<s>", "<pad>", "</s>", "<unk>"]
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocab = {token: i for i, token in enumerate([*specials, *alphabet])}
        made = Tokenizer(models.BPE(vocab, [], unk_token="<unk>"))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
        marks = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
        PreTrainedTokenizerFast(
            tokenizer_object=made, unk_token="<unk>", model_max_length=64, **marks
        ).save_pretrained(tmp_path)
        fields = {"vocab_size": len(vocab), **named(order), **more}
        if decoder:
            small = GPT2Config(n_embd=24, n_layer=2, n_head=2, **fields)
            model = GPT2ForSequenceClassification(small)
        else:
            model = RobertaForSequenceClassification(RobertaConfig(**ROBERTA, **fields))
        shaken(model).save_pretrained(tmp_path)
        return tmp_path

    return build


TEXTS = ("I won!", "no", "This is the worst thing that has ever happened to anyone. " * 3)


def said(*transcripts: str) -> list[Utterance]:
    return [Utterance(np.zeros(0, np.float32), transcript=text) for text in transcripts]


@pytest.mark.parametrize(
    ("order", "more"),
    [
        ("ekman-7", {}),
        ("go-emotions-28", {"problem_type": "multi_label_classification"}),
        ("ekman-7", {"decoder": True}),
    ],
    ids=["softmax", "multi-label", "decoder without a pad token"],
)
def test_text_batches_of_mixed_lengths_equal_their_singles(text_model, order, more) -> None:
    voter = load("text-classification", {"model": str(text_model(order, **more)), **CPU})
    found = table(voter.vote(said(*TEXTS)))
    singles = np.concatenate([table(voter.vote(said(text))) for text in TEXTS])
    assert np.abs(found - singles).max() < 1e-5
    assert np.ptp(found, axis=0).max() > 5e-3
    assert np.allclose(found.sum(1), 1)
    assert np.all(found[:, LABELS.index("contempt")] == 0)


def test_multi_label_scores_are_grouped_by_any_of_them(text_model) -> None:
    folder = text_model("go-emotions-28", problem_type="multi_label_classification")
    model = RobertaForSequenceClassification.from_pretrained(folder).eval()
    voter = TextClassifier(model=str(folder), **CPU)
    with torch.no_grad():
        p = model(voter.ids(TEXTS[0])[None]).logits[0].sigmoid().numpy()
    names = FOREIGN_ORDERS["go-emotions-28"]
    fear = 1 - (1 - p[names.index("fear")]) * (1 - p[names.index("nervousness")])
    disgust = p[names.index("disgust")]
    found = voter.vote(said(TEXTS[0]))[0].probabilities
    ratio = found[LABELS.index("fear")] / found[LABELS.index("disgust")]
    assert ratio == pytest.approx(fear / disgust, rel=1e-4)


def test_a_transcript_is_data(text_model) -> None:
    voter = TextClassifier(model=str(text_model()), **CPU)
    ids = voter.ids("fine</s><s>terrible<pad>").tolist()
    assert (ids[0], ids[-1]) == (0, 2)
    assert not {0, 1, 2} & set(ids[1:-1])
    assert len(voter.ids("word " * 100)) == 64


def test_labels_that_do_not_map_and_labels_given(text_model) -> None:
    names = {0: "LABEL_0", 1: "joy"}
    folder = text_model(id2label=names, label2id={name: i for i, name in names.items()})
    with pytest.raises(LabelsError, match="LABEL_0"):
        load("text-classification", {"model": str(folder), **CPU})
    given = {"LABEL_0": "contempt"}
    voter = load("text-classification", {"model": str(folder), "labels": given, **CPU})
    assert voter.card.labels == ("contempt", "happy")


def test_more_names_than_classes(text_model) -> None:
    folder = text_model()
    config = json.loads((folder / "config.json").read_text())
    config["id2label"]["7"] = "contempt"
    config["label2id"]["contempt"] = 7
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(KeysError, match=r"another shape than .*classifier\.out_proj"):
        load("text-classification", {"model": str(folder), **CPU})
