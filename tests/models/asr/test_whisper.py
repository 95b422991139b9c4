"""faster-whisper around a tiny Whisper with random weights, converted here."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from tiny_whisper import OPTIONS, hear, noises, whisper_folder

from abhinaya.models.asr import Hearing
from abhinaya.models.asr import whisper as module
from abhinaya.models.asr.engine import Engine, Hypothesis
from abhinaya.models.asr.whisper import Whisper
from abhinaya.models.errors import DamagedFileError, OptionsError, RunError


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


@pytest.mark.parametrize(("beam_size", "window"), [(1, "cut"), (3, "whole")])
def test_a_result_does_not_depend_on_the_batch(folder, batch, beam_size, window):
    whisper = Whisper(str(folder), beam_size=beam_size, window=window, **OPTIONS)
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
    assert (whisper.model, whisper.licence) == ("faster-whisper ct2", "MIT")
    result = hear(Whisper(str(folder), word_times=False, **OPTIONS), batch[:1])[0]
    assert result.text
    assert result.words == ()


def test_silence_is_not_sent_to_the_model_nor_what_is_not_finite_nor_what_is_too_long(
    folder, batch
):
    whisper = Whisper(str(folder), **OPTIONS)
    silence = np.zeros(16_000, np.float32)
    results = hear(whisper, [silence, batch[0], np.zeros(0, np.float32)])
    assert [bool(r.text) for r in results] == [False, True, False]
    assert results[0].reason == results[2].reason == "silence"
    assert rounded(results[1]) == rounded(hear(whisper, [batch[0]])[0])

    broken = batch[0].copy()
    broken[100:200] = np.nan
    assert hear(whisper, [broken]) == hear(whisper, [np.nan_to_num(broken)])
    with pytest.raises(RunError, match=r"31\.0 s"):
        hear(whisper, [np.zeros(31 * 16_000, np.float32)])


# --- several languages, and what is not believed --------------------------------------------------


class Multilingual:
    """The tiny model with languages planted: CTranslate2 counts it as English only."""

    is_multilingual = True

    def __init__(self, model):
        self._model = model
        self.languages = []
        """By call of `detect_language`."""
        self.prompts = []

    def detect_language(self, _encoded):
        return [[(f"<|{language}|>", 0.9), ("<|fr|>", 0.1)] for language in self.languages.pop(0)]

    def generate(self, encoded, prompts, **options):
        self.prompts += prompts
        return self._model.generate(encoded, prompts, **options)

    def __getattr__(self, name):
        return getattr(self._model, name)


@pytest.fixture
def multilingual(folder, monkeypatch):
    def planted(*args):
        engine = Engine(*args)
        engine.model, engine.multilingual = Multilingual(engine.model), True
        engine.languages = ("de", "en", "fr")
        return engine

    monkeypatch.setattr(module, "Engine", planted)
    return lambda **options: Whisper(str(folder), **(OPTIONS | {"window": "whole"} | options))


def prompts(whisper):
    tokenizer = whisper._engine.tokenizer
    return [[tokenizer.id_to_token(t) for t in prompt] for prompt in whisper._engine.model.prompts]


def test_each_segment_is_prompted_in_its_own_language(multilingual, batch):
    whisper = multilingual()
    whisper._engine.model.languages = [["de", "en", "de", "en"]]
    results = hear(whisper, batch)
    assert [r.language for r in results] == ["de", "en", "de", "en"]
    assert results[0].language_probability == pytest.approx(0.9)
    asked = prompts(whisper)
    assert asked[0] == ["<|startoftranscript|>", "<|de|>", "<|transcribe|>", "<|notimestamps|>"]
    assert asked[1][1] == "<|en|>"
    assert all([w.text for w in r.words] == r.text.split() for r in results)
    fixed = multilingual(language="fr")
    results = hear(fixed, batch)
    assert [(r.language, r.language_probability) for r in results] == [("fr", None)] * 4
    assert (whisper.stateful, fixed.stateful) == (True, False)


def test_a_streams_language_is_held_once_it_is_sure(multilingual, batch):
    whisper, state, heard = multilingual(), b"", []
    loud = np.tile(batch[1], 2)[:100_000]
    whisper._engine.model.languages = [["de"], ["en"], ["de"], ["en"]]
    for _ in range(4):
        (result,) = whisper.transcribe([Hearing(loud, "call", state=state)])
        state = result.state
        heard.append(result.language)
    assert heard == ["de", "de", "de", "de"]
    assert whisper._engine.model.languages, "after 10 s of speech nobody asks again"


def test_a_translation_stands_beside_the_original(multilingual, batch):
    whisper = multilingual(task="translate")
    whisper._engine.model.languages = [["de", "en"]]
    german, english = hear(whisper, batch[:2])
    assert german.text
    assert german.translation
    assert (english.language, english.translation) == ("en", "")
    assert prompts(whisper)[2][:3] == ["<|startoftranscript|>", "<|de|>", "<|translate|>"]


@pytest.mark.parametrize(
    ("tokens", "logprob", "no_speech", "text", "reason"),
    [
        ((300, 301), -0.2, 0.9, "", "hardly speech"),
        ((300, 301), -0.2, 0.1, "w300 w301", ""),
        ((300, 301), -3.0, 0.1, "", "not understood"),
        ((), 0.0, 0.1, "", "no words recognised"),
        ((300,) * 60, -0.1, 0.1, "", "the recogniser repeated itself"),
    ],
)
def test_what_whisper_would_not_believe_comes_back_empty(
    folder, batch, monkeypatch, tokens, logprob, no_speech, text, reason
):
    whisper = Whisper(str(folder), device="cpu")
    said = whisper._engine.tokenizer.decode(list(tokens)).strip()
    planted = Hypothesis(tokens, said, logprob, no_speech)
    monkeypatch.setattr(whisper._engine, "generate", lambda *_args, **_kwargs: [planted])
    result = hear(whisper, [batch[0]])[0]
    assert result.text == text
    assert result.reason.startswith(reason)
    if text:
        assert result.confidence == pytest.approx(np.exp(logprob))


def test_a_doubtful_segment_is_decoded_again_in_the_whole_window(folder, batch, monkeypatch):
    whisper = Whisper(str(folder), device="cpu")
    windows, encode = [], whisper._engine.encode
    takes = [
        Hypothesis((300,) * 60, "w300 " * 60, -0.1, 0.1),
        Hypothesis((300, 301), "w300 w301", -0.1, 0.1),
    ]

    def listened(segments, whole):
        windows.append(whole)
        return encode(segments, whole)

    monkeypatch.setattr(whisper._engine, "encode", listened)
    monkeypatch.setattr(whisper._engine, "generate", lambda *_args, **_kwargs: [takes.pop(0)])
    assert hear(whisper, [batch[0]])[0].text == "w300 w301"
    assert windows == [False, True]


def test_speech_that_is_not_english_is_said_once_and_withheld(folder, batch, monkeypatch):
    whisper, state, said = Whisper(str(folder), device="cpu"), b"", []
    planted = Hypothesis((300, 301, 302), "w300 w301 w302", -0.95, 0.0)
    monkeypatch.setattr(whisper._engine, "generate", lambda *_args, **_kwargs: [planted])
    for _ in range(3):
        (result,) = whisper.transcribe([Hearing(batch[1], "call", state=state)])
        state = result.state
        said.append((result.text, result.reason))
    assert said[0][1].startswith("this does not seem to be English, the only language of ct2")
    assert said[0][1].endswith("--set asr.options.model=base")
    assert said[1:] == [("", "not English")] * 2
    going_on = Hearing(batch[1], "call", 3, final=False, state=state)
    assert whisper.transcribe([going_on])[0].reason == "not English"


# --- models that are not there --------------------------------------------------------------------


def test_a_damaged_model_is_named(folder, tmp_path):
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(folder / name, tmp_path)
    (tmp_path / "model.bin").write_bytes(b"not a model")
    with pytest.raises(DamagedFileError, match="convert it again"):
        Whisper(str(tmp_path), device="cpu")


def test_a_language_that_the_model_lacks_names_the_remedy(folder):
    with pytest.raises(OptionsError, match=r"'tlh'.*does not know it.*asr.options.model=base"):
        Whisper(str(folder), language="tlh", **OPTIONS)
    with pytest.raises(OptionsError, match=r"translate.*asr.options.model=base"):
        Whisper(str(folder), task="translate", **OPTIONS)
