"""Which episodes of a feed are to be heard, and how often one that fails is tried. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from abhinaya.stream.feeds.parse import Episode


class Agenda:
    """The episodes of one feed in one run.

    Args:
        newest: how many of the newest are wanted to begin with.
        attempts: tries of one episode.
        is_heard: whether an episode's verdicts are written.

    """

    def __init__(self, newest: int, attempts: int, is_heard: Callable[[Episode], bool]) -> None:
        self._newest = newest
        self._attempts = attempts
        self._is_heard = is_heard
        self._failures: dict[str, int] = {}
        self._taken: set[str] = set()

    def beginning(self, episodes: Sequence[Episode]) -> tuple[list[Episode], list[Episode]]:
        """Part the episodes, the newest first, into those wanted to begin with and those passed."""
        return list(episodes[: self._newest]), list(episodes[self._newest :])

    def due(self, wanted: Sequence[Episode]) -> list[Episode]:
        """Give which of these are to be heard now, the oldest first; they count as taken."""
        due = [e for e in reversed(wanted) if e.key not in self._taken and self._may_try(e)]
        self._taken |= {e.key for e in due}
        return due

    def failed(self, episode: Episode) -> None:
        """Note that an episode was not heard to its end: it may be tried again."""
        self._failures[episode.key] = self._failures.get(episode.key, 0) + 1
        self._taken.discard(episode.key)

    def _may_try(self, episode: Episode) -> bool:
        return self._failures.get(episode.key, 0) < self._attempts and not self._is_heard(episode)
