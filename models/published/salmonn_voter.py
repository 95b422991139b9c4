"""S2 and ST1 as voters: loads their five files and builds their prompts.

    whisper, beats   the two frozen encoders, one copy for all voters of the process
    llm              Vicuna, frozen
    adapter          the published SALMONN file: LoRA, Q-Former, projection (optional)
    checkpoint       written by ABHINAYA's training: the head, and the adapter's weights if trained

The weights were trained with exactly these prompts; do not change them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from abhinaya.models.base import SAMPLE_RATE, Card, Utterance
from abhinaya.models.checkpoint import Tensors, fill, read
from abhinaya.models.errors import KeysError, OptionsError
from abhinaya.models.inference import compile_if_asked, place, warm_up, weigh
from abhinaya.models.labels import LABELS, label_map, own_labels
from abhinaya.models.published.audio_encoders import LONGEST, AudioEncoders, AudioFeatures, shared
from abhinaya.models.published.beats import SHORTEST
from abhinaya.models.published.llama import (
    Quantize,
    load_head,
    load_llm,
    load_tokenizer,
    one_by_one,
    plain_ids,
    split_lora,
)
from abhinaya.models.published.lora import ALPHA, fill_lora, merge_lora
from abhinaya.models.published.salmonn import (
    PoolScope,
    Prompt,
    Salmonn,
    SpeechAdapter,
    adapter_sizes,
    assemble,
)
from abhinaya.models.published.voting_batch import (
    Answer,
    answers,
    serve,
    unfit_audio,
    unfit_text,
)

_BEFORE: Final = "USER: <Speech>"
_AFTER: Final = (
    "</Speech> Describe the emotion of the speaker in one word.\nASSISTANT:",
    "</Speech> Use one word to describe the speaker's emotion.\nASSISTANT:",
)
_TEXT: Final = "Describe emotion of the speaker in one word"
_TRANSCRIPT: Final = " <Transcript> "
_MAX_TEXT: Final = 300
"""Maximum number of tokens of the text, including its end token."""

ABHINAYA_PREFIX: Final = "salmonn_model."
LLM_PREFIX: Final = "llama_model."
HEAD: Final = re.compile(r"(ln|pool|fc|out)\.")
_ALIAS: Final = re.compile(
    r"beats\.(encoder\.layers\.\d+\.self_attn\.relative_attention_bias\.weight)"
)
_UNUSED: Final = (r"speech_Qformer\.bert\.embeddings\.position_ids",)


class Prompter:
    """Builds prompts with or without the transcript; their three texts are tokenised separately."""

    count: Final = len(_AFTER)
    """Number of published prompts; training used one at random for each sample."""

    def __init__(self, tokenizer: Any, transcript: bool) -> None:
        self._tokenizer, self._transcript = tokenizer, transcript
        self._before = (tokenizer.bos_token_id, *plain_ids(tokenizer, _BEFORE))
        self._after = [tuple(plain_ids(tokenizer, after)) for after in _AFTER]

    def check(self, prompt: int) -> None:
        """Raise OptionsError if `prompt` is not the number of a prompt."""
        if prompt not in range(self.count):
            raise OptionsError(f"prompt {prompt!r}", "there are two", "use 0 or 1")

    def __call__(self, transcript: str, prompt: int = 0) -> Prompt:
        """Return the prompt of one item."""
        text = _TEXT + _TRANSCRIPT + transcript.strip() if self._transcript else _TEXT
        return self.answered(text, prompt)

    def answered(self, text: str, prompt: int = 0) -> Prompt:
        """Return a prompt with `text` and the end token where the assistant answers."""
        ids = (*plain_ids(self._tokenizer, text), self._tokenizer.eos_token_id)
        return Prompt(self._before, self._after[prompt], ids[:_MAX_TEXT])


class SalmonnVoter:
    """A SALMONN classifier: S2, or ST1 with `transcript`.

    With `zero_shot` it is the published SALMONN (`adapter`, no `checkpoint`): it compares the
    likelihoods of the labels, in lower case or capitalised, as the language model's whole answer.

    Options in addition to the files above: `labels`, the checkpoint's outputs in its order, if they
    are not the eight of this package; `prompt` 0 or 1, the published prompt for every segment;
    `pool_scope`, the positions that the head pools; `lora_alpha`, 32 as published, 28 is advised
    for an 8-bit language model; `merge`, add LoRA to the weights once (irreversible, faster);
    `quantize`, 8bit or 4bit by bitsandbytes; `qformer_heads`; `attention` and `compile`; `licence`
    and `noncommercial`, as on the files' pages.
    """

    def __init__(
        self,
        whisper: str,
        beats: str,
        llm: str,
        checkpoint: str | None = None,
        adapter: str | None = None,
        zero_shot: bool = False,
        transcript: bool = False,
        labels: Sequence[str] | str | None = None,
        prompt: int = 0,
        pool_scope: PoolScope = "nonpad",
        lora_alpha: float = ALPHA,
        merge: bool = False,
        quantize: Quantize | None = None,
        qformer_heads: int = 12,
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "auto",
        compile: bool = False,
        name: str = "salmonn",
        licence: str = "Apache-2.0 (SALMONN) and the language model's own",
        noncommercial: bool = False,
    ) -> None:
        if pool_scope not in ("nonpad", "speech"):
            raise OptionsError(
                f"pool_scope {pool_scope!r}",
                "a voter cannot pool it: with padding, a result would depend on the batch",
                "use nonpad, which is what all means for one segment, or speech",
            )
        if zero_shot == bool(checkpoint):
            raise OptionsError(
                f"the option checkpoint of {name}",
                "has no place in a zero-shot model" if checkpoint else "is missing",
                "leave one out, zero_shot or checkpoint"
                if checkpoint
                else "give it in the profile",
            )
        transcript = transcript and not zero_shot
        self._transcript, self._scope = transcript, pool_scope
        self._place = place(device, dtype, attention, compile)
        self._apart = one_by_one(quantize)
        parts = Parts.read(adapter, checkpoint)
        names = LABELS if zero_shot else own_labels(labels, parts.labels, parts.subject)
        self._labels = label_map(names, parts.subject)
        self.encoders = shared(whisper, beats, self._place)
        parts.check_aliases(self.encoders, beats)
        self._prompter = Prompter(load_tokenizer(llm), transcript)
        self._prompter.check(prompt)
        self._prompt = prompt
        causal = load_llm(llm, self._place, quantize, output=zero_shot)
        body = causal.base_model
        bridge = parts.joined(body, llm, self.encoders, qformer_heads, lora_alpha)
        if merge:
            merge_lora(body)
        compile_if_asked(self._place, bridge, body)
        if zero_shot:
            words = (*LABELS, *(label.capitalize() for label in LABELS))
            self._words = [self._prompter.answered(word, prompt) for word in words]
            head = causal.get_output_embeddings()
        else:
            head = load_head(parts.head, body.config.hidden_size, len(names), parts.subject)
            head.to(self._place.device)
        self._zero_shot = zero_shot
        self._model = Salmonn(bridge, body, head).eval()
        self._model.requires_grad_(False)
        size = weigh(self._model, self.encoders.whisper, self.encoders.beats)
        self.card = Card(
            model=name,
            version=f"{Path(checkpoint or adapter or '').stem} on {llm}",
            needs=frozenset({"audio", "transcript"}) if transcript else frozenset({"audio"}),
            labels=self._labels.labels,
            attributes=bool(self._labels.attributes),
            licence=licence,
            noncommercial=noncommercial,
            notes=(f"uses the first {LONGEST // SAMPLE_RATE} s of a segment", *parts.notes(body)),
            sample_rate_hz=SAMPLE_RATE,
            longest_s=LONGEST / SAMPLE_RATE,
            **asdict(size),
        )
        warm_up(self, self._place)

    def vote(self, batch: Sequence[Utterance]) -> list[Answer]:
        """Return one answer for each segment."""
        return serve(batch, self._unfit, self._run, self._labels)

    def _unfit(self, utterance: Utterance) -> str | None:
        reason = unfit_audio(utterance, SHORTEST)
        return unfit_text(utterance) if reason is None and self._transcript else reason

    def _run(self, batch: list[Utterance]) -> Tensor:
        features = self.encoders.encode([utterance.samples for utterance in batch])
        if self._zero_shot:
            speech = self._model.speech_tokens(features)
            return torch.stack([self.likelihoods(tokens).softmax(-1) for tokens in speech])
        prompts = [self.prompt(utterance.transcript) for utterance in batch]
        if not self._apart:
            return self._score(features, prompts)
        pairs = zip(features, prompts, strict=True)
        return torch.cat([self._score([item], [prompt]) for item, prompt in pairs])

    def _score(self, features: Sequence[AudioFeatures], prompts: Sequence[Prompt]) -> Tensor:
        scores: Tensor = self._model(features, prompts, self._scope)
        return answers(scores, self._labels)

    def likelihoods(self, speech: Tensor) -> Tensor:
        """Return the log-likelihood [C] of each label as the answer to speech tokens [88, H]."""
        found = []
        for prompt in self._words:
            sequence = assemble(self._model.embedding(), [prompt], [speech])
            answer = torch.tensor(prompt.text, device=speech.device)[:, None]
            hidden = self._model.read(sequence)[0, -len(answer) - 1 : -1]
            scores: Tensor = self._model.head(hidden).float()
            found.append(scores.log_softmax(-1).gather(1, answer).sum())
        return torch.stack(found).view(2, len(LABELS)).logsumexp(0)

    def prompt(self, transcript: str) -> Prompt:
        """Return the prompt of a segment."""
        return self._prompter(transcript, self._prompt)


salmonn_13b: Final = partial(
    SalmonnVoter,
    name="salmonn-13b",
    transcript=False,
    licence="LLaMA-1 research licence (Vicuna v1.1)",
    noncommercial=True,
)
"""S2: SALMONN-13B on Vicuna-13B v1.1, by default without transcript."""

salmonn_7b: Final = partial(
    SalmonnVoter,
    name="salmonn-7b",
    transcript=True,
    licence="Llama 2 Community License (Vicuna v1.5)",
)
"""ST1: SALMONN-7B on Vicuna-7B v1.5, by default with transcript."""


class Parts:
    """Tensors of adapter and checkpoint, split into LoRA, head and the rest."""

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        head: Tensors,
        subject: str,
        labels: Sequence[str] | str | None = None,
    ) -> None:
        self.subject, self.head = subject, head
        self.labels = labels
        """Class names stored in the checkpoint."""
        self.lora, rest = split_lora(tensors, LLM_PREFIX)
        self.aliases = {m[1]: t for k, t in rest.items() if (m := _ALIAS.fullmatch(k))}
        self.rest = {k: t for k, t in rest.items() if not _ALIAS.fullmatch(k)}

    @classmethod
    def read(cls, adapter: str | None, checkpoint: str | None) -> Parts:
        """Read the files; weights of the checkpoint replace those of the adapter."""
        tensors = read(adapter).tensors if adapter else {}
        file = read(checkpoint) if checkpoint else None
        trained = file.tensors if file else {}
        head = {k: t for k, t in trained.items() if HEAD.match(k)}
        others = {k: t for k, t in trained.items() if k not in head}
        if stray := [k for k in others if not k.startswith(ABHINAYA_PREFIX)]:
            raise KeysError(
                checkpoint,
                f"it holds {stray[0]!r}, which is of neither the head nor {ABHINAYA_PREFIX}*",
                "give a published SALMONN file with the option adapter, ABHINAYA's as checkpoint",
            )
        tensors = tensors | {k.removeprefix(ABHINAYA_PREFIX): t for k, t in others.items()}
        subject = " and ".join(p for p in (adapter, checkpoint) if p)
        return cls(tensors, head, subject, file.extra.get("labels") if file else None)

    def bridge(self, heads: int, encoders: AudioEncoders) -> SpeechAdapter:
        """Return the speech adapter with these weights; its sizes are read from their shapes."""
        remedy = "use salmonn_v1.pth (13B), salmonn_7b_v0.pth (7B) or what was trained from them"
        try:
            speech, audio, qformer = adapter_sizes(self.rest, heads)
            width = len(self.rest["speech_llama_proj.weight"])
        except KeyError as error:
            raise KeysError(self.subject, f"it has no {error.args[0]}", remedy) from error
        if (speech, audio) != encoders.widths:
            raise KeysError(
                self.subject,
                f"it was trained with encoders of widths {speech} and {audio},"
                f" but these have {encoders.widths[0]} and {encoders.widths[1]}",
                "use whisper-large-v2 and BEATs iter3+ AS2M",
            )
        bridge = SpeechAdapter(speech, audio, qformer, width)
        fill(bridge, self.rest, self.subject, ignored=_UNUSED, remedy=remedy)
        return bridge.eval()

    def joined(
        self, body: Any, llm: str, encoders: AudioEncoders, heads: int, alpha: float
    ) -> SpeechAdapter:
        """Add the LoRA weights to the language model `llm`; return the speech adapter for it."""
        bridge = self.bridge(heads, encoders)
        self.check_width(body.config, llm)
        fill_lora(body, self.lora, self.subject, alpha)
        return bridge.to(encoders.place.device, encoders.place.dtype)

    def check_width(self, config: Any, llm: str) -> None:
        """Raise KeysError if the adapter was trained for a language model of another size."""
        width = len(self.rest["speech_llama_proj.weight"])
        layers = len({k.split(".")[1] for k in self.lora})
        if (width, layers) != (config.hidden_size, config.num_hidden_layers):
            wanted = {5120: "Vicuna-13B v1.1", 4096: "Vicuna-7B v1.5"}.get(width, "its own")
            raise KeysError(
                llm,
                f"it has width {config.hidden_size} and {config.num_hidden_layers} layers,"
                f" but {self.subject} is for width {width} and {layers} layers",
                f"use the language model of that size: {wanted}",
            )

    def check_aliases(self, encoders: AudioEncoders, beats: str) -> None:
        """Raise KeysError if a SALMONN file's copy of BEATs' bias table differs from BEATs' own."""
        name = "encoder.layers.0.self_attn.relative_attention_bias.weight"
        first = encoders.beats.get_parameter(name)
        for key, table in self.aliases.items():
            if table.shape != first.shape or not torch.equal(
                table.to(first.device, first.dtype), first
            ):
                raise KeysError(
                    self.subject,
                    f"its {key} differs from {beats}: it was trained with another BEATs",
                    "use BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt",
                )

    def notes(self, body: Any) -> tuple[str, ...]:
        """Return a warning if Vicuna's version seems wrong; a wrong one would answer nonsense."""
        width, length = body.config.hidden_size, body.config.max_position_embeddings
        expected = {5120: (2048, "v1.1"), 4096: (4096, "v1.5")}.get(width)
        if expected is None or length == expected[0]:
            return ()
        note = (
            f"this language model reads {length} tokens; Vicuna {expected[1]}, which SALMONN of"
            f" this size was trained with, reads {expected[0]}: check that it is that version"
        )
        return (note,)
