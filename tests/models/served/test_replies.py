from __future__ import annotations

import json
import math
import re

import pytest
from fakes import patient
from hypothesis import given
from hypothesis import strategies as st
from scripted_server import completion

from abhinaya.models.base import Abstention, Ballot
from abhinaya.models.labels import LABELS
from abhinaya.models.served.replies import NonsenseError, Reply, find_label, judge, read_reply


def label(text: str, **more) -> str | None:
    answer = judge(Reply(text, **more))
    return answer.label if isinstance(answer, Ballot) else None


def reason(text: str, **more) -> str:
    answer = judge(Reply(text, **more))
    assert isinstance(answer, Abstention), answer
    return answer.reason


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize(
    "form",
    ["{}", "  {}\n", "{}.", "**{}**", '"{}"', "Emotion: {}", "The emotion is {}!",
     '{{"emotion": "{}"}}',
     '```json\n{{"emotion": "{}"}}\n```', "<think>happy? sad? angry?</think>{}",
     "she may be sad, or not </think>\n\n{}", "<b>{}</b>", "{}<|eot_id|>"],
)  # fmt: skip
def test_a_label_in_many_forms(name, form) -> None:
    assert label(form.format(name)) == name
    assert label(form.format(name.upper())) == name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Happiness", "happy"),
        ("The speaker feels anger.", "angry"),
        ("Disgusted", "disgust"),
        ("scared", "fear"),
        ('{"emotion": "Sadness"}', "sad"),
        ("unhappy", "sad"),
        ("not happy but sad", "sad"),
        ("The speaker isn\u2019t angry; I would say contempt", "contempt"),
        ("It could be fear or surprise. Final answer: surprise", "surprise"),
        ("sad. Clearly sad: nothing but sadness", "sad"),
        ("Emotionless, thus neutral", "neutral"),
        ("fear rather than surprise", "fear"),
    ],
)
def test_synonyms_negations_and_conclusions(text, expected) -> None:
    assert label(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("<think>the speaker seems happy", "gave no answer"),
        ("happy or sad", r"several labels \(happy, sad\)"),
        ("bored", "no label: 'bored'"),
        ("not happy", "no label"),
        ('{"emotion": "bored"}', "not one of the eight: 'bored'"),
        ('{"emotion": 5}', "no label"),
        ("unfearfulness", "no label"),
        ("I'm sorry, but I can't tell if the speaker is sad.", "refused"),
        ("I can\u2019t help with that.", "refused"),
        ("As an AI, I do not feel happy.", "refused"),
        ("I cannot determine the emotion, maybe angry", "refused"),
        ("x" * 5000, "no label: 'xxxx"),
    ],
)
def test_what_is_no_vote_says_why(text, said) -> None:
    why = reason(text)
    assert re.search(said, why), why
    assert len(why) < 200


def test_refusals_that_the_server_marks_and_replies_that_were_cut() -> None:
    assert "refused: 'no'" in reason("sad", refusal="no")
    assert "raise max_tokens" in reason("<think>so", finish="length")
    assert label("sad", finish="length") == "sad"


@pytest.mark.parametrize(
    "text", ["<think>fear</think> I say: sad", '{"emotion": " sad"}', "so Sad"]
)
def test_where_the_label_is(text) -> None:
    found = find_label(text)
    assert not isinstance(found, Abstention)
    assert text[found[1] : found[1] + 3].lower() == "sad"


@patient
@given(st.text(max_size=200))
def test_any_text_gives_a_label_or_a_reason(text) -> None:
    answer = judge(Reply(text))
    assert isinstance(answer, Abstention) or answer.label in LABELS


def test_a_completion_is_read() -> None:
    reply = read_reply(json.dumps(completion("sad", "length", refusal="r")).encode())
    assert (reply.text, reply.finish, reply.refusal, reply.steps) == ("sad", "length", "r", ())
    assert read_reply(json.dumps(completion(None)).encode()).text == ""


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>nginx</html>", b"[]", b"{}",
     b'{"choices": []}', b'{"choices": [{}]}', b"\xff\xfe",
     b'{"choices": [{"message": "sad"}]}', b'{"choices": [{"message": {"content": ["sad"]}}]}',
     b'{"choices": {"0": 1}}', b"[" * 100_000,
     b'{"choices": [{"message": {"content": "a"}, "logprobs": {"content": [{}]}}]}',
     b'{"choices": [{"message": {}, "logprobs": {"content": [{"token": "a", "logprob": "x"}]}}]}'],
)  # fmt: skip
def test_a_body_that_is_none(body) -> None:
    with pytest.raises(NonsenseError):
        read_reply(body)


def told(text: str, *steps: tuple[str, dict[str, float]]) -> Ballot | Abstention:
    """Judge a reply whose tokens are `steps`: the token and its alternatives' probabilities."""
    content = [
        {
            "token": token,
            "logprob": math.log(others.get(token, 1.0)),
            "top_logprobs": [{"token": t, "logprob": math.log(p)} for t, p in others.items()],
        }
        for token, others in steps
    ]
    made = completion(text, logprobs={"content": content})
    return judge(read_reply(json.dumps(made).encode()))


def shares(answer) -> dict[str, float]:
    assert isinstance(answer, Ballot)
    assert answer.probabilities is not None
    assert sum(answer.probabilities) == pytest.approx(1)
    assert answer.label == max(zip(answer.probabilities, LABELS, strict=True))[1]
    return {k: p for k, p in zip(LABELS, answer.probabilities, strict=True) if p}


BEHIND_REASONING = (
    ("<think>", {}), ("sad", {"sad": 0.9, "fear": 0.1}), ("</think>", {}), ('{"', {}),
    ("emotion", {"emotion": 1.0}), ('":', {}), (' "', {' "': 0.99}),
    ("fear", {"fear": 0.8, "surprise": 0.2}), ('"}', {}), ("<|eot_id|>", {}),
)  # fmt: skip
GLUED = (('{"emotion":', {}), (' "fear', {' "fear': 0.8, ' "sad': 0.2}), ('"}', {}))


@pytest.mark.parametrize(
    ("text", "steps", "expected"),
    [
        ("happy", [("happy", {"happy": 0.6, " sad": 0.25, "Angry": 0.1, "the": 0.05})],
         {"happy": 6 / 9.5, "sad": 2.5 / 9.5, "angry": 1 / 9.5}),
        ("disgust", [("dis", {"dis": 0.5, "contem": 0.3, "neut": 0.2}), ("gust", {})],
         {"disgust": 0.5, "contempt": 0.3, "neutral": 0.2}),
        ("sad", [("s", {"s": 0.5, "happy": 0.5}), ("ad", {"ad": 0.7, "urprise": 0.3})],
         {"happy": 0.5, "sad": 0.35, "surprise": 0.15}),
        ('{"emotion": "fear"}', BEHIND_REASONING, {"fear": 0.8, "surprise": 0.2}),
        ('{"emotion": "fear"}', GLUED, {"fear": 0.8, "sad": 0.2}),
        ("joy", [("joy", {"joy": 0.5, "happy": 0.2, "anger": 0.3})], {"happy": 0.7, "angry": 0.3}),
    ],
    ids=["words", "pieces", "beginning of two", "behind reasoning", "glued", "synonyms"],
)  # fmt: skip
def test_alternatives_of_the_tokens_are_the_probabilities(text, steps, expected) -> None:
    assert shares(told(text, *steps)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "steps",
    [
        [("happy", {"happy": 0.2, "the": 0.8})],  # most of it is elsewhere
        [("other", {"other": 1.0})],  # not the tokens of this text
        [],
    ],
)
def test_probabilities_that_mean_little_are_left_out(steps) -> None:
    assert told("happy", *steps) == Ballot("happy")
