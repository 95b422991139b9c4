"""SALMONN as published, without training for emotions: its language model names the emotion.

    prompt, speech -> the likelihood of each label as the whole answer -> probabilities [C]

An answer is a label, in lower case or capitalised, and the end token. The label with the largest
likelihood is the vote; no word is drawn at random, so the vote is repeatable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from abhinaya.models.base import SAMPLE_RATE, Card, Utterance
from abhinaya.models.inference import compile_if_asked, place, warm_up, weigh
from abhinaya.models.labels import CANONICAL_MAP, LABELS
from abhinaya.models.published.audio_encoders import LONGEST, shared
from abhinaya.models.published.beats import SHORTEST
from abhinaya.models.published.llama import Quantize, load_llm, load_tokenizer
from abhinaya.models.published.lora import ALPHA
from abhinaya.models.published.salmonn import Salmonn, assemble
from abhinaya.models.published.salmonn_voter import Parts, Prompter
from abhinaya.models.published.voting_batch import Answer, serve, unfit_audio

_WORDS: Final = (*LABELS, *(label.capitalize() for label in LABELS))


class SalmonnZeroShot:
    """The published SALMONN as a voter; `adapter` decides between 13B and 7B.

    Options in addition to the files: `prompt` 0 or 1, one of the two published questions;
    `lora_alpha`, 32 as published, 28 is advised for an 8-bit language model; `quantize`, 8bit or
    4bit by bitsandbytes; `qformer_heads`; `attention` and `compile`; `licence` and `noncommercial`,
    as on the files' pages.
    """

    def __init__(
        self,
        whisper: str,
        beats: str,
        llm: str,
        adapter: str,
        prompt: int = 0,
        lora_alpha: float = ALPHA,
        quantize: Quantize | None = None,
        qformer_heads: int = 12,
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "auto",
        compile: bool = False,
        licence: str = "Apache-2.0 (SALMONN) and the language model's own",
        noncommercial: bool = False,
    ) -> None:
        where = place(device, dtype, attention, compile)
        parts = Parts.read(adapter, None)
        self.encoders = shared(whisper, beats, where)
        parts.check_aliases(self.encoders, beats)
        prompter = Prompter(load_tokenizer(llm), transcript=False)
        prompter.check(prompt)
        self._prompts = [prompter.answered(word, prompt) for word in _WORDS]
        causal = load_llm(llm, where, quantize, output=True)
        body = causal.base_model
        bridge = parts.joined(body, llm, self.encoders, qformer_heads, lora_alpha)
        compile_if_asked(where, bridge, body)
        self._words: Any = causal.get_output_embeddings()
        self._model = Salmonn(bridge, body, nn.Identity()).eval().requires_grad_(False)
        size = weigh(self._model, self._words, self.encoders.whisper, self.encoders.beats)
        self.card = Card(
            model="salmonn-zero-shot",
            version=f"{Path(adapter).stem} on {llm}",
            needs=frozenset({"audio"}),
            labels=LABELS,
            licence=licence,
            noncommercial=noncommercial,
            notes=(f"uses the first {LONGEST // SAMPLE_RATE} s of a segment", *parts.notes(body)),
            sample_rate_hz=SAMPLE_RATE,
            longest_s=LONGEST / SAMPLE_RATE,
            **asdict(size),
        )
        warm_up(self, where)

    def vote(self, batch: Sequence[Utterance]) -> list[Answer]:
        """Return one answer for each segment."""
        return serve(batch, lambda u: unfit_audio(u, SHORTEST), self._run, CANONICAL_MAP)

    def _run(self, batch: list[Utterance]) -> Tensor:
        speech = self._model.speech_tokens(self.encoders.encode([u.samples for u in batch]))
        return torch.stack([self.likelihoods(tokens).softmax(-1) for tokens in speech])

    def likelihoods(self, speech: Tensor) -> Tensor:
        """Return the log-likelihood [C] of each label after speech tokens [88, H]."""
        found = []
        for prompt in self._prompts:  # one by one: a batch of all would need much memory
            sequence = assemble(self._model.embedding(), [prompt], [speech])
            answer = torch.tensor(prompt.text, device=speech.device)
            hidden = self._model.read(sequence)[0, -len(answer) - 1 : -1]
            scores = self._words(hidden).float().log_softmax(-1)
            found.append(scores.gather(1, answer[:, None]).sum())
        return torch.stack(found).view(2, len(LABELS)).logsumexp(0)
