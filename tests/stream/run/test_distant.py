"""How long a run waits for a hub on another machine, with a clock that is moved by hand."""

from __future__ import annotations

from abhinaya.stream.run.distant import Hub, HubWatch, LocalBeats, is_hopeless


def test_a_loss_and_the_return_are_each_reported_once() -> None:
    watch = HubWatch(silent_s=4)
    states = [watch.look(now - 100 if now < 160 else 0) for now in range(100, 170)]
    assert states[:5] == [Hub.ANSWERS] * 5
    assert states[5:60] == [Hub.LOST] + [Hub.AWAY] * 54
    assert states[60:] == [Hub.BACK] + [Hub.ANSWERS] * 9


def test_it_waits_up_to_the_bound_and_not_at_all_for_a_hub_that_was_never_there() -> None:
    for silence_s, ever, expected in ((4, False, False), (4.5, False, True), (604, True, False)):
        assert is_hopeless(silence_s, ever, silent_s=4, wait_s=600) is expected
    assert is_hopeless(604.5, True, silent_s=4, wait_s=600)


def test_a_front_is_suspected_when_it_leaves_no_heartbeat_and_not_before_its_first() -> None:
    beats = LocalBeats(silent_s=4)
    assert list(beats.suspects(100, ["front-0"])) == []
    assert beats.found(100, "front-0", beat=1)
    assert not beats.found(101, "front-0", beat=1)
    assert list(beats.suspects(104, ["front-0"])) == []
    (suspect,) = beats.suspects(105, ["front-0", "front-1"])
    assert (suspect.name, suspect.reason) == ("front-0", "has been silent for 5.0 s")
    # a wall clock that is set back changes the mark too
    assert beats.found(106, "front-0", beat=0)
    assert list(beats.suspects(107, ["front-0"])) == []
