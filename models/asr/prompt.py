"""What Whisper is told before it listens: language, hot words, and what was said before.

The prompt is Whisper's own (Radford et al. 2022, section 2.3): text before a special token stands
for what came before this window. Hot words stand there as if they had been said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from abhinaya.models.asr.engine import Engine
from abhinaya.models.errors import OptionsError

PREVIOUS_LENGTHS: Final = (128, 64, 32, 16, 8, 4, 0)
"""Tokens of the text before that are told. CTranslate2 takes prompts of one length in a batch: with
few lengths there are few batches, and none depends on what else is waiting."""
MOST_HOTWORD_TOKENS: Final = 96
TRANSCRIBE: Final = "transcribe"


class Prompter:
    """Makes prompts for one model.

    Args:
        engine: the loaded model.
        hotwords: words to expect.
        previous_text: whether to tell what was said before.

    Raises:
        OptionsError: the hot words are too many.

    """

    def __init__(self, engine: Engine, hotwords: str | Sequence[str], previous_text: bool) -> None:
        self._engine = engine
        self._previous_text = previous_text
        self._tokenizers: dict[tuple[str, str], Any] = {}
        self._hotwords = self._hot(hotwords)

    def context(self, previous: str) -> tuple[int, ...]:
        """Return the tokens of what is told before the segment, given the text before it."""
        told = self._encode(previous) if self._previous_text else []
        length = next(size for size in PREVIOUS_LENGTHS if size <= len(told))
        return (*self._hotwords, *told[len(told) - length :])

    def prompt(self, language: str, context: Sequence[int], task: str = TRANSCRIBE) -> list[int]:
        """Return the whole prompt."""
        tokenizer = self.tokenizer(language, task)
        before = [tokenizer.sot_prev, *context] if context else []
        return [*before, *tokenizer.sot_sequence, tokenizer.no_timestamps]

    def tokenizer(self, language: str, task: str = TRANSCRIBE) -> Any:
        """Return the tokenizer that knows this language's own token."""
        if (language, task) not in self._tokenizers:
            from faster_whisper.tokenizer import Tokenizer

            self._tokenizers[language, task] = Tokenizer(
                self._engine.tokenizer, self._engine.multilingual, task=task, language=language
            )
        return self._tokenizers[language, task]

    def _hot(self, hotwords: str | Sequence[str]) -> list[int]:
        words = hotwords if isinstance(hotwords, str) else ", ".join(map(str, hotwords))
        tokens = self._encode(words)
        if len(tokens) > MOST_HOTWORD_TOKENS:
            raise OptionsError(
                "asr.options.hotwords",
                f"{len(tokens)} tokens, of which Whisper hears {MOST_HOTWORD_TOKENS} at most",
                "Leave out the words that it knows anyway",
            )
        return tokens

    def _encode(self, text: str) -> list[int]:
        """Return the tokens of a text as it stands in the middle of another."""
        plain = " ".join(text.split())
        tokenizer = self._engine.tokenizer
        encoded = tokenizer.encode(f" {plain}", add_special_tokens=False) if plain else None
        ids = encoded.ids if encoded else []
        return [token for token in ids if token < self._engine.first_special]
