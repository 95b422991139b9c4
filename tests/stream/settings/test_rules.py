"""Verdicts in, alerts out: planted runs, gaps, revisions and cool-downs, by the stream's clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes import SECOND, config, gap, info, verdict
from hypothesis import given
from hypothesis import strategies as st

from abhinaya.models.labels import UNKNOWN
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.settings.profile import load
from abhinaya.stream.settings.rule_file import load_rules, with_rules
from abhinaya.stream.settings.rules import LONGEST, Alert, RuleConfig, Watch, fits
from abhinaya.stream.wire.messages import (
    Remark,
    StreamEnded,
    StreamStarted,
    Transcript,
    Verdict,
)


def rule(**changes: Any) -> RuleConfig:
    return RuleConfig(**({"name": "r", "label": "angry", "cool_down_s": 0.0} | changes))


def said(sequence: int, label: str = "angry", seconds: float = 1.0, **changes: Any) -> Verdict:
    """A segment that begins at the second of its number."""
    end = sequence * SECOND + round(seconds * SECOND)
    return verdict(sequence, label=label, end=end, **changes)


def feed(watch: Watch, labels: str) -> list[int]:
    """Give the segments that complete an alert; a: angry, n: neutral, -: a gap."""
    fired = []
    for sequence, letter in enumerate(labels):
        event = (
            gap(sequence) if letter == "-" else said(sequence, {"a": "angry"}.get(letter, "sad"))
        )
        fired += [alert.sequence for alert in watch.see(event)]
    return fired


@pytest.mark.parametrize(
    ("changes", "labels", "fired"),
    [
        ({}, "nana", [1, 3]),
        ({}, "aaa", [0, 1, 2]),
        ({"for_segments": 2}, "anaa", [3]),
        ({"for_segments": 2}, "aaaaa", [1, 3]),  # a segment counts once
        ({"for_segments": 2}, "a-aa", [3]),  # who knows what was in the gap
        ({"for_segments": 3}, "aanaa", []),
        ({"for_seconds": 3.0}, "aanaaa", [5]),
        ({"for_segments": 2, "for_seconds": 1.5}, "aa", [1]),
        ({"cool_down_s": 3.0}, "aaaaaaa", [0, 3, 6]),
        ({"cool_down_s": 3.0}, "annna", [0, 4]),
        ({"cool_down_s": 100.0}, "aaaaaaa", [0]),
        ({"cool_down_s": 3.0, "for_segments": 2}, "aaaaaaa", [1, 4]),
        ({"label": "fear"}, "aaaa", []),
    ],
)
def test_a_rule_fires_at_the_segment_that_completes_it(
    changes: dict[str, Any], labels: str, fired: list[int]
) -> None:
    assert feed(Watch([rule(**changes)]), labels) == fired


def test_an_alert_tells_what_it_is_made_of() -> None:
    watch = Watch([rule(name="loud", for_segments=2, min_confidence=0.5)])
    transcript = Transcript(
        stream="call", sequence=5, text="enough", model="m", queue_ms=0, run_ms=0, batch_size=1
    )
    assert not watch.see(said(4, confidence=0.5, seconds=0.5))
    (alert,) = watch.see(said(5, confidence=0.75, transcript=transcript))
    assert alert == Alert(
        rule="loud",
        stream="call",
        label="angry",
        sequence=5,
        first_sequence=4,
        start=4 * SECOND,
        end=6 * SECOND,
        start_unix_s=1_000_000.0,
        speech=SECOND + SECOND // 2,
        segments=2,
        confidence=0.625,
        text="enough",
    )


def test_a_segment_that_is_not_sure_enough_breaks_the_run() -> None:
    watch = Watch([rule(for_segments=2, min_confidence=0.6)])
    assert not watch.see(said(0, confidence=0.9))
    assert not watch.see(said(1, confidence=0.59))
    assert not watch.see(said(2, confidence=0.9))
    assert not watch.see(said(3, confidence=None))
    assert not watch.see(said(4, confidence=0.6))
    assert watch.see(said(5, confidence=0.6))


@pytest.mark.parametrize("label", ["angry", UNKNOWN])
def test_a_rule_may_ask_for_no_confidence_and_for_unknown(label: str) -> None:
    (alert,) = Watch([rule(label=label)]).see(said(0, label, confidence=None))
    assert alert.confidence is None


def test_a_revision_fires_nothing_that_has_been_told() -> None:
    watch = Watch([rule()])
    assert watch.see(said(0))
    assert not watch.see(said(0, revision=1))
    assert not watch.see(said(0, "sad", revision=2))
    assert not watch.see(said(0, revision=3))


def test_a_revision_completes_a_run_in_the_middle_or_takes_a_segment_out_of_it() -> None:
    watch = Watch([rule(for_segments=3)])
    assert feed(watch, "ana") == []
    (alert,) = watch.see(said(1, revision=1))
    assert (alert.first_sequence, alert.sequence, alert.segments) == (0, 2, 3)
    assert not watch.see(said(3))
    watch = Watch([rule(for_segments=3)])
    assert feed(watch, "aa") == []
    assert not watch.see(said(1, "sad", revision=1))
    assert not watch.see(said(2))


def test_a_late_revision_of_an_early_segment_fires_unless_it_is_within_the_cool_down() -> None:
    watch = Watch([rule(cool_down_s=5.0)])
    assert feed(watch, "n" * 9 + "a") == [9]
    assert not watch.see(said(6, revision=1))
    assert watch.see(said(2, revision=1))
    assert not watch.see(said(10))  # the last alert in the stream's time still is that of 9


def test_memory_is_bounded_and_a_forgotten_segment_is_not_judged_again() -> None:
    watch = Watch([rule()])
    feed(watch, "n" * 2000)
    assert not watch.see(said(1000, revision=1))
    assert watch.see(said(1990, revision=1))
    watch = Watch([rule(cool_down_s=86_400.0), rule(name="other", label="fear")])
    assert feed(watch, "a" * 3000) == [0]
    lengths = [len(track.entries) for _, track in watch._of("call")]
    assert lengths[0] <= LONGEST
    assert lengths[1] <= 257
    assert watch.see(StreamEnded(stream="call", sequence=3000, position=1)) == []
    assert not watch._tracks


def test_streams_and_rules_are_apart() -> None:
    watch = Watch([rule(name="one", for_segments=2), rule(name="two")])
    fired = [watch.see(said(0, stream=s)) for s in ("a", "b")]
    assert [[a.rule for a in alerts] for alerts in fired] == [["two"], ["two"]]
    assert [a.rule for a in watch.see(said(1, stream="a"))] == ["one", "two"]


def test_what_is_no_final_verdict_counts_for_nothing() -> None:
    watch = Watch([rule()])
    assert not watch.see(said(0, part=1))
    assert not watch.see(Remark(source="x", text="y"))
    assert not watch.see(StreamStarted(info=info()))
    assert watch.see(said(0))


@pytest.mark.parametrize(
    ("changes", "stream", "fitting"),
    [
        ({}, "call", True),
        ({}, "call/agent", True),
        ({"channel": "customer"}, "call/customer", True),
        ({"channel": "customer"}, "call/agent", False),
        ({"channel": "customer"}, "customer", False),
        ({"channel": "cust*"}, "a/b/customer", True),
        ({"stream": "desk-?"}, "desk-3", True),
        ({"stream": "desk-?"}, "desk-3/agent", False),
        ({"stream": "desk-*", "channel": "agent"}, "desk-3/agent", True),
        ({"stream": "Call"}, "call", False),
    ],
)
def test_patterns_choose_streams_and_channels(
    changes: dict[str, str], stream: str, fitting: bool
) -> None:
    assert fits(rule(**changes), stream) is fitting
    assert bool(Watch([rule(**changes)]).see(said(0, stream=stream))) is fitting


history = st.lists(
    st.tuples(st.integers(0, 11), st.sampled_from(["angry", "sad"])), min_size=1, max_size=60
)


@given(history, st.integers(1, 3), st.sampled_from([0.0, 2.0]))
def test_whatever_is_revised_no_segment_is_in_two_alerts(
    changes: list[tuple[int, str]], for_segments: int, cool_down_s: float
) -> None:
    watch = Watch([rule(for_segments=for_segments, cool_down_s=cool_down_s)])
    labels: dict[int, str] = {}
    told: list[int] = []
    for number, label in changes:
        sequence = min(number, len(labels))  # the next one, or a revision
        labels[sequence] = label
        for alert in watch.see(said(sequence, label)):
            covered = range(alert.first_sequence, alert.sequence + 1)
            assert sequence in covered
            assert {labels[s] for s in covered} == {"angry"}
            assert len(covered) == alert.segments >= for_segments
            told += covered
    assert len(told) == len(set(told))


# --- rules as TOML --------------------------------------------------------------------------------

GOOD = """
[[rules]]
name = "angry customer"
label = "angry"
channel = "customer"
for_segments = 2
command = ["notify-send", "angry"]

[[rules]]
name = "nobody knows"
label = "unknown"
webhook = "https://example.org/hook"
webhook_secret_env = "HOOK"
"""

BAD = """
[[rules]]
name = "a"
label = "angri"
for_segment = 2
[[rules]]
label = "happy"
min_confidence = 2
command = "rm -rf"
"""


def write(tmp_path: Path, text: str, name: str = "rules.toml") -> Path:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return path


def test_a_file_of_rules_and_rules_in_a_profile_are_the_same(tmp_path: Path) -> None:
    rules = load_rules(write(tmp_path, GOOD))
    assert [r.name for r in rules] == ["angry customer", "nobody knows"]
    assert rules[0].command == ("notify-send", "angry")
    assert rules[0].cool_down_s == RuleConfig("x", "angry").cool_down_s
    profile = write(tmp_path, '[voters.S1]\nmodel = "tiny-speech"\n' + GOOD, "p.toml")
    assert load(str(profile)).rules == rules
    own = config(rules=(rule(),))
    assert with_rules(own, tmp_path / "rules.toml").rules == (rule(), *rules)
    assert with_rules(own, None) is own


def test_all_faults_of_rules_are_told_at_once_with_the_near_miss(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_rules(write(tmp_path, "colour = 1\n" + BAD))
    text = error.value.reason
    for fault in (
        "colour is not a setting",
        "rules[0].label = 'angri' is not known, did you mean 'angry'?",
        "rules[0].for_segment is not a setting, did you mean 'for_segments'?",
        "rules[1].name is missing",
        "rules[1].min_confidence = 2 is above 1",
        "rules[1].command = 'rm -rf' does not fit",
    ):
        assert fault in text
    assert text.count("; ") == 5


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('name = ""\nlabel = "sad"', "rules[0].name is empty"),
        ('name = "a"\nlabel = "sad"\ncommand = [""]', "rules[0].command names no program"),
        ('name = "a"\nlabel = "sad"\nwebhook = "ftp://x"', "is not an http:// or https:// address"),
        ('name = "a"\nlabel = "sad"\nwebhook = "http://"', "is not an http:// or https:// address"),
        ('name = "a"\nlabel = "sad"\nwebhook_secret_env = "S"', "has no webhook to sign for"),
        (
            'name = "a"\nlabel = "sad"\n[[rules]]\nname = "a"\nlabel = "sad"',
            "rules[1].name = 'a' is the name of an earlier rule",
        ),
    ],
)
def test_rules_that_cannot_work_are_refused(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_rules(write(tmp_path, f"[[rules]]\n{text}\n"))
    assert error.value.reason.endswith(fault)
    with pytest.raises(ConfigError) as error:
        load("embedded", {"rules": [{"name": "a", "label": "x"}]})
    assert "rules[0].label = 'x' is not known" in error.value.reason


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("rules = 3", "rules must be an array of tables"),
        ("rules = [3]", r"rules\[0\] must be a table"),
        ("", "rules is missing"),
        ("= x", "cannot be read"),
    ],
)
def test_a_file_without_rules_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=rf"rules\.toml.*{fault}"):
        load_rules(write(tmp_path, text))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_rules(tmp_path / "no.toml")


def test_a_name_that_the_profile_has_is_refused(tmp_path: Path) -> None:
    own = config(rules=(rule(name="one"), rule(name="two")))
    single = '[[rules]]\nname = "two"\nlabel = "sad"\n'
    with pytest.raises(ConfigError) as error:
        with_rules(own, write(tmp_path, single))
    # the place is that in the file, not behind the rules of the profile
    assert error.value.reason == "rules[0].name = 'two' is the name of a rule of the profile"
