"""Recognition errors, simulated: words dropped, exchanged, inserted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def with_errors(text: str, rate: float, vocabulary: Sequence[str], rng: np.random.Generator) -> str:
    """Let each word of a text go wrong with probability `rate`.

    Half of the errors exchange the word for one of `vocabulary`, a quarter drop it, a quarter
    insert one after it: roughly how the errors of a recogniser divide. At least one word stays.
    """
    words = []
    for word in text.split():
        if rng.random() >= rate:
            words.append(word)
            continue
        kind, other = rng.random(), vocabulary[int(rng.integers(len(vocabulary)))]
        if kind < 0.5:
            words.append(other)
        elif kind < 0.75:
            words += [word, other]
    return " ".join(words) or text
