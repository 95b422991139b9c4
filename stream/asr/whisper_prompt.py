"""What Whisper is told before it listens: language, hot words, and what was said before.

The prompt is Whisper's own (Radford et al. 2022, section 2.3): text before a special token stands
for what came before this window. Hot words stand there as if they had been said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from abhinaya.stream.errors import ModelError

PREVIOUS_LENGTHS: Final = (128, 64, 32, 16, 8, 4, 0)
"""Tokens of the text before that are told. CTranslate2 takes prompts of one length in a batch: with
few lengths there are few batches, and none depends on what else is waiting."""
MOST_HOTWORD_TOKENS: Final = 96


class Prompter:
    """Makes prompts for one model.

    Args:
        whisper: the loaded model.
        hotwords: words to expect.
        previous_text: whether to tell what was said before.

    Raises:
        ModelError: the hot words are too many, or no words.

    """

    def __init__(self, whisper: Any, hotwords: str | Sequence[str], previous_text: bool) -> None:
        self._whisper = whisper
        self._previous_text = previous_text
        self._tokenizers: dict[str, Any] = {}
        self._hotwords = self._hot(hotwords)

    def context(self, previous: str) -> list[int]:
        """Give the tokens of what is told before the segment, given the text before it."""
        told = self._encode(previous) if self._previous_text else []
        length = next(size for size in PREVIOUS_LENGTHS if size <= len(told))
        return [*self._hotwords, *told[len(told) - length :]]

    def prompt(self, language: str, context: Sequence[int]) -> list[int]:
        """Give the whole prompt."""
        tokenizer = self.tokenizer(language)
        before = [tokenizer.sot_prev, *context] if context else []
        return [*before, *tokenizer.sot_sequence, tokenizer.no_timestamps]

    def tokenizer(self, language: str) -> Any:
        """Give the tokenizer that knows this language's own token."""
        if language not in self._tokenizers:
            from faster_whisper.tokenizer import Tokenizer

            self._tokenizers[language] = Tokenizer(
                self._whisper.hf_tokenizer,
                self._whisper.model.is_multilingual,
                task="transcribe",
                language=language,
            )
        return self._tokenizers[language]

    def _hot(self, hotwords: str | Sequence[str]) -> list[int]:
        words = hotwords if isinstance(hotwords, str) else ", ".join(map(str, hotwords))
        tokens = self._encode(words)
        if len(tokens) > MOST_HOTWORD_TOKENS:
            raise ModelError(
                "asr.options.hotwords",
                f"are {len(tokens)} tokens, of which Whisper hears {MOST_HOTWORD_TOKENS} at most",
                "leave out the words that it knows anyway",
            )
        return tokens

    def _encode(self, text: str) -> list[int]:
        """Give the tokens of a text as it stands in the middle of another."""
        plain = " ".join(text.split())
        tokenizer = self._whisper.hf_tokenizer
        encoded = tokenizer.encode(f" {plain}", add_special_tokens=False) if plain else None
        first_special = tokenizer.token_to_id("<|endoftext|>")
        return [token for token in encoded.ids if token < first_special] if encoded else []


def by_length(contexts: Mapping[int, Sequence[int]]) -> list[list[int]]:
    """Group the keys of contexts that are of one length."""
    groups: dict[int, list[int]] = {}
    for key, context in contexts.items():
        groups.setdefault(len(context), []).append(key)
    return list(groups.values())
