"""Make Whisper's prompts: language, hot words, and the text of the previous segment.

A prompt begins with the text before this window (Radford et al. 2022, section 2.3). Hot words are
written there too, as if they had been spoken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from abhinaya.models.asr.engine import Engine
from abhinaya.models.errors import OptionsError

PREVIOUS_LENGTHS: Final = (128, 64, 32, 16, 8, 4, 0)
"""Allowed numbers of tokens of the previous text. Prompts of a batch must have the same length: few
lengths make few batches. The choice does not depend on the other segments of the batch."""
MOST_HOTWORD_TOKENS: Final = 96
TRANSCRIBE: Final = "transcribe"
TRANSLATE: Final = "translate"


class Prompter:
    """Makes prompts for one model.

    Args:
        engine: the loaded model.
        hotwords: words to expect.
        previous_text: whether prompts contain the text of the previous segment.

    Raises:
        OptionsError: there are too many hot words.

    """

    def __init__(self, engine: Engine, hotwords: str | Sequence[str], previous_text: bool) -> None:
        self._engine = engine
        self._previous_text = previous_text
        self._tokenizers: dict[tuple[str, str], Any] = {}
        words = hotwords if isinstance(hotwords, str) else ", ".join(map(str, hotwords))
        self._hotwords = self._encode(words)
        if len(self._hotwords) > MOST_HOTWORD_TOKENS:
            raise OptionsError(
                "asr.options.hotwords",
                f"the hot words have {len(self._hotwords)} tokens; {MOST_HOTWORD_TOKENS} fit",
                "leave out common words, which Whisper knows",
            )

    def context(self, previous: str) -> tuple[int, ...]:
        """Return the tokens before a segment: the hot words, then the end of the previous text."""
        before = self._encode(previous) if self._previous_text else []
        length = next(size for size in PREVIOUS_LENGTHS if size <= len(before))
        return (*self._hotwords, *before[len(before) - length :])

    def prompt(self, language: str, context: Sequence[int], task: str = TRANSCRIBE) -> list[int]:
        """Return the prompt for a segment with this context."""
        tokenizer = self.tokenizer(language, task)
        before = [tokenizer.sot_prev, *context] if context else []
        return [*before, *tokenizer.sot_sequence, tokenizer.no_timestamps]

    def tokenizer(self, language: str, task: str = TRANSCRIBE) -> Any:
        """Return the tokenizer of a language."""
        if (language, task) not in self._tokenizers:
            from faster_whisper.tokenizer import Tokenizer

            self._tokenizers[language, task] = Tokenizer(
                self._engine.tokenizer, self._engine.multilingual, task=task, language=language
            )
        return self._tokenizers[language, task]

    def _encode(self, text: str) -> list[int]:
        """Return the tokens of a text in the middle of another text, without special tokens."""
        plain = " ".join(text.split())
        tokenizer, special = self._engine.tokenizer, self._engine.first_special
        encoded = tokenizer.encode(f" {plain}", add_special_tokens=False) if plain else None
        return [token for token in encoded.ids if token < special] if encoded else []
