"""When a client introduces itself, with a clock that is moved by hand."""

from __future__ import annotations

from abhinaya.stream.wire.greeting import LONGEST_PAUSE_S, Greeting


def greetings(greeting: Greeting, start: float, seconds: float) -> list[float]:
    """When it greets if its loop turns ten times a second."""
    times = [start + tick / 10 for tick in range(round(10 * seconds))]
    return [now for now in times if greeting.is_due(now)]


def test_without_a_connection_there_is_no_greeting() -> None:
    assert greetings(Greeting(), 0, 60) == []


def test_the_pauses_grow_until_the_hub_answers() -> None:
    greeting = Greeting()
    greeting.connected(10)
    assert greetings(greeting, 10, 20) == [10, 10.5, 11.5, 13.5, 17.5, 22.5, 27.5]
    greeting.accept()
    assert greetings(greeting, 30, 60) == []


def test_a_new_connection_is_greeted_at_once_and_a_hub_that_asks_again_and_again_is_not() -> None:
    greeting = Greeting()
    greeting.connected(0)
    assert greeting.is_due(0)
    greeting.accept()
    greeting.again(0.1)
    assert greetings(greeting, 0.1, 0.6) == [0.5]
    for tick in range(100):
        greeting.again(2 + tick / 100)
    assert len(greetings(greeting, 3, LONGEST_PAUSE_S)) <= 4
    greeting.connected(20)
    assert greeting.is_due(20)
