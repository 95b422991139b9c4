"""faster-whisper on segments that go on, with prompts, hot words and guards: a tiny real model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_whisper import OPTIONS, hear, noises, whisper_folder

from abhinaya.models.asr import Hearing, load_transcriber, whisper_prompt
from abhinaya.models.asr import whisper as module
from abhinaya.models.asr.whisper import Whisper
from abhinaya.stream.errors import ModelError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return whisper_folder(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def batch():
    return noises()


@pytest.fixture(scope="module")
def plain(folder):
    return Whisper(str(folder), **OPTIONS)


class Scripted:
    """The tiny model, but what it writes is planted: word `n` of the vocabulary is `wn`."""

    def __init__(self, model):
        self._model = model
        self.prompts = []
        self.script = []

    def generate(self, encoded, prompts, **options):
        outputs = self._model.generate(encoded, prompts, **options)
        self.prompts.append(prompts)
        return [replace_tokens(output, self.script.pop(0)) for output in outputs]

    def __getattr__(self, name):
        return getattr(self._model, name)


class replace_tokens:  # noqa: N801 - stands for a result of the library
    def __init__(self, output, tokens):
        self.sequences_ids = [tokens]
        self.scores = output.scores
        self.no_speech_prob = output.no_speech_prob


@pytest.fixture
def scripted(folder):
    whisper = Whisper(str(folder), **(OPTIONS | {"previous_text": True}))
    whisper._whisper.model = Scripted(whisper._whisper.model)
    return whisper


def part(samples, stream="call", sequence=0):
    return Hearing(samples, stream, sequence, final=False)


def said(words):
    return " ".join(f"w{word}" for word in words)


def settle(whisper, samples, scripts, **which):
    """Give how many words are settled after each of some parts with planted words."""
    stable = []
    for words in scripts:
        whisper._whisper.model.script = [list(words)]
        result = whisper.transcribe([part(samples, **which)])[0]
        assert result.text == said(words)
        stable.append(result.stable)
    return stable


# --- parts ----------------------------------------------------------------------------------------


def test_what_two_passes_agree_on_is_settled(scripted, batch):
    growing = [(300,), (300, 301), (300, 301, 302), (300, 305, 306), (307,)]
    assert settle(scripted, batch[0], growing) == [0, 1, 2, 1, 0]


def test_segments_do_not_share_what_was_said(scripted, batch):
    assert settle(scripted, batch[0], [(300, 301)], sequence=1) == [0]
    assert settle(scripted, batch[0], [(300, 301)], sequence=2) == [0]
    assert settle(scripted, batch[0], [(300, 301)], stream="other", sequence=1) == [0]
    assert settle(scripted, batch[0], [(300, 301)], sequence=1) == [2]


def test_after_its_end_nothing_is_kept_of_a_segment(scripted, batch):
    settle(scripted, batch[0], [(300, 301)])
    scripted._whisper.model.script = [[300, 301]]
    assert scripted.transcribe([Hearing(batch[0], "call", 0)])[0].stable == 0
    assert settle(scripted, batch[0], [(300, 301)]) == [0]
    scripted.forget("call", 0)
    scripted.forget("call", 0)
    assert settle(scripted, batch[0], [(300, 301)]) == [0]


def test_of_segments_without_an_end_the_oldest_is_dropped(scripted, batch, monkeypatch):
    monkeypatch.setattr(module, "MOST_FOLLOWED", 2)
    for sequence in (1, 2, 1, 3):
        settle(scripted, batch[0], [(300,)], sequence=sequence)
    assert settle(scripted, batch[0], [(300,)], sequence=1) == [1]
    assert settle(scripted, batch[0], [(300,)], sequence=2) == [0]


def test_a_part_costs_no_alignment_and_the_final_one_has_times(plain, batch):
    going_on, final = plain.transcribe([part(batch[0]), Hearing(batch[1])])
    assert going_on.text
    assert going_on.words == ()
    assert [word.text for word in final.words] == final.text.split()


def test_the_final_text_does_not_depend_on_the_parts(folder, batch):
    whisper = Whisper(str(folder), **OPTIONS)
    alone = hear(whisper, [batch[1]])[0]
    for length in (30_000, 60_000, 30_000):
        whisper.transcribe([part(batch[1][:length])])
    assert whisper.transcribe([Hearing(batch[1], "call", 0)])[0] == alone


@pytest.mark.parametrize("length", [0, 1, 159])
def test_a_scrap_of_a_part_is_silence(plain, batch, length):
    result = plain.transcribe([part(batch[0][:length], "scrap")])[0]
    assert (result.text, result.reason, result.stable) == ("", "silence", 0)


# --- prompts --------------------------------------------------------------------------------------


def names(whisper, prompt):
    return [whisper._whisper.hf_tokenizer.id_to_token(token) for token in prompt]


def test_the_text_before_is_told_where_it_is_wanted(folder, scripted, batch, plain):
    assert (plain.context_turns, scripted.context_turns) == (0, 1)
    scripted._whisper.model.script = [[300]]
    scripted.transcribe([Hearing(batch[0], previous="so it goes")])
    prompt = names(scripted, scripted._whisper.model.prompts[-1][0])
    assert prompt[0] == "<|startofprev|>"
    assert "".join(prompt[1:9]) == "\u0120it\u0120goes"[-8:], "the last 8 tokens"
    assert prompt[9:] == ["<|startoftranscript|>", "<|notimestamps|>"]
    unasked = plain.transcribe([Hearing(batch[0], previous="so it goes")])
    assert unasked == hear(plain, [batch[0]])


def test_no_text_before_is_no_prompt(scripted, batch):
    """Also after a segment that a guard emptied: a loop is not carried on."""
    scripted._whisper.model.script = [[300]]
    scripted.transcribe([Hearing(batch[0], previous="")])
    assert names(scripted, scripted._whisper.model.prompts[-1][0])[0] == "<|startoftranscript|>"


def test_what_was_said_changes_what_is_heard_but_not_for_the_neighbours(folder, batch):
    whisper = Whisper(str(folder), previous_text=True, **OPTIONS)
    before = ["", "so it goes", "the quick brown fox jumps over the lazy dog", "never mind"]
    heard = [Hearing(s, previous=text) for s, text in zip(batch, before, strict=True)]
    together = [r.text for r in whisper.transcribe(heard)]
    assert together == [whisper.transcribe([h])[0].text for h in heard]
    assert together == [r.text for r in whisper.transcribe(heard[::-1])][::-1]
    without = [r.text for r in hear(whisper, batch)]
    assert together[0] == without[0]
    assert all(a != b for a, b in zip(together[1:], without[1:], strict=True))


def test_a_long_text_before_is_told_from_its_end(scripted, batch):
    scripted._whisper.model.script = [[300]]
    scripted.transcribe([Hearing(batch[0], previous="a" * 300 + " end")])
    prompt = names(scripted, scripted._whisper.model.prompts[-1][0])
    assert len(prompt) == 1 + whisper_prompt.PREVIOUS_LENGTHS[0] + 2
    assert "".join(prompt[-6:-2]) == "\u0120end"


def test_marks_in_a_text_are_no_commands(scripted, batch):
    scripted._whisper.model.script = [[300]]
    scripted.transcribe([Hearing(batch[0], previous="<|endoftext|> yes <|nospeech|>")])
    prompt = names(scripted, scripted._whisper.model.prompts[-1][0])
    assert [name for name in prompt if name.startswith("<|")] == [
        "<|startofprev|>",
        "<|startoftranscript|>",
        "<|notimestamps|>",
    ]


def test_hot_words_stand_before_the_text(folder, batch):
    whisper = Whisper(str(folder), **(OPTIONS | {"hotwords": ["Abhinaya", "rasa"]}))
    whisper._whisper.model = Scripted(whisper._whisper.model)
    whisper._whisper.model.script = [[300]]
    whisper.transcribe([Hearing(batch[0])])
    prompt = names(whisper, whisper._whisper.model.prompts[-1][0])
    assert prompt[0] == "<|startofprev|>"
    assert "".join(prompt[1:-2]) == "\u0120Abhinaya,\u0120rasa"


def test_hot_words_change_what_is_heard(folder, batch, plain):
    hot = Whisper(str(folder), **(OPTIONS | {"hotwords": "abhinaya"}))
    assert hear(hot, batch) != hear(plain, batch)
    none = Whisper(str(folder), **(OPTIONS | {"hotwords": []}))
    assert hear(none, batch) == hear(plain, batch)


def test_the_longest_prompt_and_the_longest_answer_fit(folder, batch):
    options = OPTIONS | {
        "hotwords": "a" * (whisper_prompt.MOST_HOTWORD_TOKENS - 1),
        "max_new_tokens": module.MOST_NEW_TOKENS,
        "previous_text": True,
    }
    whisper = Whisper(str(folder), **options)
    spoken = []
    align = whisper._words
    whisper._words = lambda encoded, tokens, *rest: (
        spoken.extend(tokens) or align(encoded, tokens, *rest)
    )
    assert whisper.transcribe([Hearing(batch[2], previous="b" * 500)])[0].text
    assert [len(tokens) for tokens in spoken] == [module.MOST_NEW_TOKENS]


# --- guards and options ---------------------------------------------------------------------------


def test_a_guarded_segment_is_empty_and_says_why(folder, batch):
    options = OPTIONS | {"guards": OPTIONS["guards"] | {"least_confidence": 1.0}}
    result = hear(Whisper(str(folder), **options), [batch[0]])[0]
    assert (result.text, result.words, result.confidence) == ("", (), None)
    assert result.reason.startswith("low confidence")


def test_a_guarded_part_settles_nothing(scripted, batch):
    scripted._guards = replace(scripted._guards, most_repeats=2)
    assert settle(scripted, batch[0], [(300, 301), (300, 301)]) == [0, 2]
    scripted._whisper.model.script = [[300] * 6]
    looped = scripted.transcribe([part(batch[0])])[0]
    assert (looped.text, looped.stable) == ("", 0)
    assert looped.reason == "the recogniser repeated itself"
    assert settle(scripted, batch[0], [(300, 301)]) == [0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beams": 5}, "did you mean 'beam_size'"),
        ({"beam_size": 0}, r"beam_size = 0.*give 1 to"),
        ({"max_new_tokens": 500}, r"max_new_tokens = 500.*give 1 to"),
        ({"guards": {"no_speech": 2}}, r"guards\.no_speech = 2 is above 1"),
        ({"guards": {"silence": 1}}, r"guards\.silence is no setting"),
        ({"hotwords": "a" * 200}, "200 tokens|201 tokens"),
        ({"compute_type": "float3"}, "choose a compute_type"),
        ({"xyz": 1}, "its options: .*hotwords"),
    ],
)
def test_options_that_are_none_are_refused_with_a_remedy(folder, options, message):
    with pytest.raises(ModelError, match=message):
        load_transcriber("faster-whisper", {"model": str(folder), "device": "cpu"} | options)


def test_a_batch_of_parts_and_final_ones_with_silence_between(plain, batch):
    silence = np.zeros(16_000, np.float32)
    mixed = [part(batch[0], "a"), Hearing(silence, "b"), Hearing(batch[1], "c")]
    results = plain.transcribe(mixed)
    assert [bool(r.text) for r in results] == [True, False, True]
    assert results[2].text == hear(plain, [batch[1]])[0].text
