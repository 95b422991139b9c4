"""When to try again to open an input that was lost."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator

from abhinaya.stream.settings.config import NetworkConfig


def tries(
    settings: NetworkConfig, stop: threading.Event, patience_s: float, *, at_once: bool = False
) -> Iterator[None]:
    """Yield once for each try, after a pause that doubles, until time is up or `stop` is set.

    The pauses are randomized, so that many clients do not reconnect together.

    Args:
        settings: the pauses.
        stop: ends a pause when set.
        patience_s: no try begins later than this many seconds after the call.
        at_once: whether the first try has no pause before it.

    """
    first, longest = settings.first_pause_s, settings.longest_pause_s
    since, pause = time.monotonic(), 0.0 if at_once else first
    while time.monotonic() - since <= patience_s:
        if stop.wait(min(longest, pause * random.uniform(0.5, 1.5))):  # noqa: S311
            return
        yield
        pause = min(longest, max(first, 2 * pause))
