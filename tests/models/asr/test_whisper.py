"""faster-whisper around a tiny Whisper with random weights, converted here."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_whisper import OPTIONS, hear, noises, whisper_folder

from abhinaya.models.asr import whisper_load
from abhinaya.models.asr.whisper import Whisper
from abhinaya.stream.errors import ModelError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return whisper_folder(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def batch():
    return noises()


def rounded(result):
    """Batches of other sizes sum floats in another order: the last digits are noise."""
    words = tuple(replace(w, confidence=round(w.confidence, 5)) for w in result.words)
    return replace(result, words=words, confidence=round(result.confidence, 5))


# --- a real (tiny) model --------------------------------------------------------------------------


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_result_does_not_depend_on_the_batch(folder, batch, beam_size):
    whisper = Whisper(str(folder), beam_size=beam_size, **OPTIONS)
    together = [rounded(r) for r in hear(whisper, batch)]
    assert together == [rounded(hear(whisper, [samples])[0]) for samples in batch]
    assert together == [rounded(r) for r in hear(whisper, batch[::-1])][::-1]
    assert len({r.text for r in together}) > 1, "the audio makes no difference at all"


def test_words_confidence_and_language(folder, batch):
    whisper = Whisper(str(folder), **OPTIONS)
    for samples, result in zip(batch, hear(whisper, batch), strict=True):
        assert [word.text for word in result.words] == result.text.split()
        assert len(result.words) == OPTIONS["max_new_tokens"]
        assert all(0 <= w.start <= w.end <= len(samples) for w in result.words)
        assert 0 < result.confidence < 1
        assert (result.language, result.reason) == ("en", "")


def test_word_times_can_be_left_out(folder, batch):
    result = hear(Whisper(str(folder), word_times=False, **OPTIONS), batch[:1])[0]
    assert result.text
    assert result.words == ()


def test_silence_is_not_sent_to_the_model(folder, batch):
    whisper = Whisper(str(folder), **OPTIONS)
    silence = np.zeros(16_000, np.float32)
    results = hear(whisper, [silence, batch[0], np.zeros(0, np.float32)])
    assert [bool(r.text) for r in results] == [False, True, False]
    assert results[0].reason == results[2].reason == "silence"
    assert rounded(results[1]) == rounded(hear(whisper, [batch[0]])[0])


def test_samples_that_are_no_numbers_are_heard_as_silence(folder, batch):
    broken = batch[0].copy()
    broken[100:200] = np.nan
    mended = np.nan_to_num(broken)
    whisper = Whisper(str(folder), **OPTIONS)
    assert hear(whisper, [broken]) == hear(whisper, [mended])


def test_more_than_thirty_seconds_are_refused(folder):
    with pytest.raises(ValueError, match=r"31\.0 s"):
        hear(Whisper(str(folder), **OPTIONS), [np.zeros(31 * 16_000, np.float32)])


def test_its_name_is_the_folder(folder):
    whisper = Whisper(str(folder), **OPTIONS)
    assert (whisper.model, whisper.licence) == ("faster-whisper ct2", "MIT")


# --- several languages, and what is not believed --------------------------------------------------


class Multilingual:
    """The tiny model with languages planted: CTranslate2 counts it as English only."""

    is_multilingual = True

    def __init__(self, model, languages):
        self._model = model
        self._languages = languages
        self.prompts = []

    def detect_language(self, _encoded):
        return [[(f"<|{language}|>", 0.9), ("<|fr|>", 0.1)] for language in self._languages]

    def generate(self, encoded, prompts, **options):
        self.prompts = prompts
        return self._model.generate(encoded, prompts, **options)

    def __getattr__(self, name):
        return getattr(self._model, name)


def test_each_segment_is_prompted_in_its_own_language(folder, batch, monkeypatch):
    load = whisper_load.load

    def planted(*args, **kwargs):
        loaded = load(*args, **kwargs)
        loaded.model = Multilingual(loaded.model, ["de", "en", "de", "en"])
        return loaded

    monkeypatch.setattr(whisper_load, "load", planted)
    whisper = Whisper(str(folder), **OPTIONS)
    results = hear(whisper, batch)
    assert [r.language for r in results] == ["de", "en", "de", "en"]
    tokenizer = whisper._whisper.hf_tokenizer
    prompts = [
        [tokenizer.id_to_token(t) for t in prompt] for prompt in whisper._whisper.model.prompts
    ]
    assert prompts[0] == ["<|startoftranscript|>", "<|de|>", "<|transcribe|>", "<|notimestamps|>"]
    assert prompts[1][1] == "<|en|>"
    assert all([w.text for w in r.words] == r.text.split() for r in results)
    fixed = Whisper(str(folder), language="fr", **OPTIONS)
    assert [r.language for r in hear(fixed, batch)] == ["fr"] * 4


@pytest.mark.parametrize(
    ("tokens", "score", "no_speech", "text", "reason"),
    [
        ([300, 301], -0.2, 0.9, "w300 w301", ""),
        ([300, 301], -3.0, 0.9, "", "no speech (probability 0.90)"),
        ([300, 301], -3.0, 0.1, "w300 w301", ""),
        ([], 0.0, 0.1, "", "no words recognised"),
        ([300] * 60, -0.1, 0.1, "", "the recogniser repeated itself"),
    ],
)
def test_what_whisper_would_not_believe_comes_back_empty(
    folder, tokens, score, no_speech, text, reason
):
    output = SimpleNamespace(sequences_ids=[tokens], scores=[score], no_speech_prob=no_speech)
    result = Whisper(str(folder), device="cpu")._text(output, "en", 30.0)
    assert (result.text, result.reason) == (text, reason)
    if text:
        assert result.confidence == pytest.approx(np.exp(score * 2 / 3))


# --- models that cannot be had --------------------------------------------------------------------


def test_a_missing_folder_is_named():
    with pytest.raises(ModelError, match=r"/no/such/folder.*no such folder"):
        Whisper("/no/such/folder")


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"no model\.bin.*ct2-transformers-converter"):
        Whisper(str(tmp_path))


def test_a_damaged_model_is_named(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="convert it again"):
        Whisper(str(tmp_path), device="cpu")


def test_an_unknown_size_lists_the_known_ones():
    with pytest.raises(ModelError, match=r"expected one of: .*large-v3"):
        Whisper("smal")


def test_a_download_without_a_network_says_what_to_do(tmp_path):
    with pytest.raises(ModelError, match="give its folder as `model`"):
        Whisper("small", local_files_only=True, download_root=str(tmp_path))


def test_an_unknown_language_lists_the_known_ones(folder):
    with pytest.raises(ModelError, match=r"'tlh'.*known: en"):
        Whisper(str(folder), language="tlh", **OPTIONS)
