"""faster-whisper on segments that go on, with prompts, hot words and guards: a tiny real model."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_whisper import OPTIONS, hear, noises, whisper_folder

from abhinaya.models.asr import Hearing, load_transcriber
from abhinaya.models.asr import prompt as prompt_module
from abhinaya.models.asr.options import MOST_NEW_TOKENS
from abhinaya.models.asr.whisper import Whisper
from abhinaya.models.errors import OptionsError


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
        begun = [t for t in prompts[0] if 300 <= t < 400]  # CTranslate2 repeats what it was given
        return [replace_tokens(output, [*begun, *self.script.pop(0)]) for output in outputs]

    def __getattr__(self, name):
        return getattr(self._model, name)


class replace_tokens:  # noqa: N801 - stands for a result of the library
    def __init__(self, output, tokens):
        self.sequences_ids = [tokens]
        self.scores = output.scores
        self.no_speech_prob = output.no_speech_prob


@pytest.fixture
def scripted(folder):
    whisper = Whisper(str(folder), **(OPTIONS | {"previous_text": True, "window": "whole"}))
    whisper._engine.model = Scripted(whisper._engine.model)
    return whisper


def part(samples, stream="call", sequence=0):
    return Hearing(samples, stream, sequence, final=False)


def follow(whisper, samples, scripts):
    """Return text and settled words after each of some parts that grow, with planted words."""
    results = []
    for n, words in enumerate(scripts, 1):
        whisper._engine.model.script = [list(words)]
        results.append(whisper.transcribe([part(samples[: 16_000 + 1_600 * n])])[0])
    return [(r.text, r.stable) for r in results]


# --- parts ----------------------------------------------------------------------------------------


def test_what_two_passes_agree_on_is_settled_and_not_written_again(scripted, batch):
    steps = [(300,), (300, 301), (301, 302), (305,), ()]
    assert follow(scripted, batch[1], steps) == [
        ("w300", 0),
        ("w300 w301", 1),
        ("w300 w301 w302", 2),
        ("w300 w301 w305", 2),
        ("w300 w301", 2),
    ]
    assert scripted._engine.model.prompts[-1][0][-2:] == [300, 301]


def test_the_final_text_does_not_depend_on_the_parts(folder, batch):
    whisper = Whisper(str(folder), **OPTIONS)
    alone = hear(whisper, [batch[1]])[0]
    for length in (30_000, 60_000, 30_000):
        whisper.transcribe([part(batch[1][:length])])
    assert whisper.transcribe([Hearing(batch[1], "call", 0)])[0] == alone


def test_a_batch_of_parts_and_final_ones_with_silence_between(plain, scripted, batch):
    """A part costs no alignment, and less than that is silence."""
    mixed = [part(batch[0], "a"), Hearing(np.zeros(16_000, np.float32), "b"), Hearing(batch[1])]
    scraps = [part(batch[0][:length], "scrap") for length in (0, 1, 159)]
    going_on, _, final, *others = results = plain.transcribe([*mixed, *scraps])
    assert [bool(r.text) for r in results] == [True, False, True, False, False, False]
    assert going_on.words == ()
    assert final == hear(plain, [batch[1]])[0]
    assert [word.text for word in final.words] == final.text.split()
    assert {(r.reason, r.stable) for r in others} == {("silence", 0)}
    assert (plain.incremental, scripted.incremental) == (True, False)


# --- prompts --------------------------------------------------------------------------------------


def prompt_of(whisper, batch, previous=""):
    """Return the names of the tokens with which a segment is asked for."""
    whisper._engine.model.script = [[300]]
    whisper.transcribe([Hearing(batch[0], previous=previous)])
    prompt = whisper._engine.model.prompts[-1][0]
    return [whisper._engine.tokenizer.id_to_token(token) for token in prompt]


def test_the_previous_text_is_in_the_prompt_if_requested(scripted, batch, plain):
    assert (plain.context_turns, scripted.context_turns) == (0, 1)
    prompt = prompt_of(scripted, batch, "so it goes")
    assert prompt[0] == "<|startofprev|>"
    assert "".join(prompt[1:9]) == "\u0120it\u0120goes"[-8:], "the last 8 tokens"
    assert prompt[9:] == ["<|startoftranscript|>", "<|notimestamps|>"]
    unasked = plain.transcribe([Hearing(batch[0], previous="so it goes")])
    assert unasked == hear(plain, [batch[0]])


def test_the_previous_text_changes_the_result_but_not_for_the_neighbours(folder, batch):
    whisper = Whisper(str(folder), previous_text=True, **OPTIONS)
    before = ["", "so it goes", "the quick brown fox jumps over the lazy dog", "never mind"]
    requests = [Hearing(s, previous=text) for s, text in zip(batch, before, strict=True)]
    together = [r.text for r in whisper.transcribe(requests)]
    assert together == [whisper.transcribe([h])[0].text for h in requests]
    assert together == [r.text for r in whisper.transcribe(requests[::-1])][::-1]
    without = [r.text for r in hear(whisper, batch)]
    assert together[0] == without[0]
    assert all(a != b for a, b in zip(together[1:], without[1:], strict=True))


def test_of_a_long_previous_text_the_end_is_in_the_prompt_and_marks_are_no_commands(
    scripted, batch
):
    prompt = prompt_of(scripted, batch, previous="a" * 300 + " end")
    assert len(prompt) == 1 + prompt_module.PREVIOUS_LENGTHS[0] + 2
    assert "".join(prompt[-6:-2]) == "\u0120end"
    prompt = prompt_of(scripted, batch, previous="<|endoftext|> yes <|nospeech|>")
    marks = [name for name in prompt if name.startswith("<|")]
    assert marks == ["<|startofprev|>", "<|startoftranscript|>", "<|notimestamps|>"]
    assert prompt_of(scripted, batch)[0] == "<|startoftranscript|>", "no text before"


def test_hot_words_stand_before_the_text(folder, batch):
    options = OPTIONS | {"hotwords": ["Abhinaya", "rasa"], "window": "whole"}
    whisper = Whisper(str(folder), **options)
    whisper._engine.model = Scripted(whisper._engine.model)
    prompt = prompt_of(whisper, batch)
    assert prompt[0] == "<|startofprev|>"
    assert "".join(prompt[1:-2]) == "\u0120Abhinaya,\u0120rasa"


def test_the_longest_prompt_and_the_longest_answer_fit(folder, batch):
    options = OPTIONS | {
        "hotwords": "a" * (prompt_module.MOST_HOTWORD_TOKENS - 1),
        "max_new_tokens": MOST_NEW_TOKENS,
        "previous_text": True,
        "window": "whole",
    }
    whisper = Whisper(str(folder), **options)
    spoken = []
    align = whisper._engine.align
    whisper._engine.align = lambda encoded, tokens, *rest: (
        spoken.extend(tokens) or align(encoded, tokens, *rest)
    )
    assert whisper.transcribe([Hearing(batch[2], previous="b" * 500)])[0].text
    assert [len(tokens) for tokens in spoken] == [MOST_NEW_TOKENS]


# --- guards and options ---------------------------------------------------------------------------


def test_a_guarded_segment_is_empty_and_says_why(folder, batch):
    options = OPTIONS | {
        "guards": OPTIONS["guards"] | {"least_evidence": 9.0, "least_evidence_30s": 9.0}
    }
    result = hear(Whisper(str(folder), **options), [batch[0]])[0]
    assert (result.text, result.words, result.confidence) == ("", (), None)
    assert result.reason.startswith("hardly speech")


def test_a_loop_in_a_part_is_shown_once(scripted, batch):
    steps = [(300, 301, 302) * 4, (300, 301, 302) * 2]
    assert follow(scripted, batch[1], steps)[0] == ("w300 w301 w302", 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 0}, r"beam_size = 0.*use 1 to"),
        ({"max_new_tokens": 500}, r"max_new_tokens = 500.*use 1 to"),
        ({"window": "30 s"}, "known: auto, cut, whole"),
        ({"task": "summarise"}, "known: transcribe, translate"),
        ({"guards": {"least_logprob": 2}}, r"guards\.least_logprob = 2 is above 0"),
        ({"guards": {"silence": 1}}, r"guards\.silence is not a setting"),
        ({"hotwords": "a" * 200}, "200 tokens|201 tokens"),
        ({"compute_type": "float3"}, "did you mean .float32."),
    ],
)
def test_options_that_are_none_are_refused_with_a_remedy(folder, options, message):
    with pytest.raises(OptionsError, match=message):
        load_transcriber("faster-whisper", {"model": str(folder), "device": "cpu"} | options)
