"""Any emotion classifier of transformers, for speech or text, as a voter.

Class names come from the checkpoint and are mapped by name. If a model's results would depend on
padding, segments of equal length are run together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import (
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from abhinaya.models.base import SAMPLE_RATE, Card, Need, Utterance
from abhinaya.models.checkpoint import check_finite
from abhinaya.models.errors import LabelsError, OptionsError
from abhinaya.models.hugging_face import locate, require_complete, translated
from abhinaya.models.inference import Place, compile_if_asked, moved, place, warm_up, weigh
from abhinaya.models.labels import CANONICAL_MAP, LABELS, LabelMap, label_map
from abhinaya.models.published.voting_batch import (
    Answer,
    answers,
    padded,
    serve,
    unfit_audio,
    unfit_text,
    valid,
)

SHORTEST: Final = 400
"""Samples of one frame of wav2vec 2 and similar models; filter banks need no more."""
_MASKED: Final = frozenset({"wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat"})
_LONGEST_TEXT: Final = 512
_WHISPER_FRAME_S: Final = 0.02


class _Classifier:
    """A classifier of transformers with the map of its classes."""

    def __init__(
        self, auto: Any, name: str, labels: Mapping[str, str] | str | None, where: Place
    ) -> None:
        with translated(name):
            model, info = auto.from_pretrained(
                locate(name),
                trust_remote_code=False,
                dtype=where.dtype,
                attn_implementation=where.attention_of_transformers,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # require_complete refuses them by name
            )
        require_complete(info, name)
        check_finite(dict(model.named_parameters()), name)
        self.config: Any = model.config
        self.labels = label_map(_names(self.config, name), name, labels)
        self.place = where
        self.model: Any = nn.Module.to(model, where.device).eval().requires_grad_(False)
        compile_if_asked(where, self.model)

    @property
    def ballot_labels(self) -> LabelMap:
        """Map from the classes of `probabilities` to LABELS."""
        return CANONICAL_MAP if self._multi_label else self.labels

    @property
    def _multi_label(self) -> bool:
        return bool(self.config.problem_type == "multi_label_classification")

    def probabilities(self, **inputs: Tensor) -> Tensor:
        """Run a batch: [B, K], or [B, C] for a model whose classes do not exclude each other."""
        here = {
            k: moved(v.to(self.place.dtype) if v.is_floating_point() else v, self.place)
            for k, v in inputs.items()
        }
        scores: Tensor = self.model(**here).logits.float()
        if not self._multi_label:
            return answers(scores, self.labels, self.config.problem_type == "regression")
        # A label holds if any of its classes holds, taken as independent; then normalised to 1.
        none_holds = (1 - scores.sigmoid()).clamp(min=1e-6).log()
        matrix = torch.from_numpy(self.labels.matrix).to(scores.device)
        holds = 1 - (none_holds @ matrix).exp()
        return holds / holds.sum(-1, keepdim=True)

    def card(self, model: str, name: str, need: Need, licence: str, noncommercial: bool) -> Card:
        size, found = weigh(self.model), self.labels.labels
        longest = getattr(self.config, "max_source_positions", None)  # Whisper's window
        return Card(
            model=model,
            version=name,
            needs=frozenset({need}),
            labels=found,
            attributes=bool(self.labels.attributes),
            licence=licence,
            noncommercial=noncommercial,
            notes=tuple(f"cannot say {x}" for x in LABELS if found and x not in found),
            sample_rate_hz=SAMPLE_RATE if need == "audio" else None,
            longest_s=longest * _WHISPER_FRAME_S if longest and need == "audio" else None,
            **asdict(size),
        )


def _names(config: Any, name: str) -> list[str]:
    names = {int(index): str(label) for index, label in config.id2label.items()}
    if sorted(names) != list(range(config.num_labels)):
        raise LabelsError(
            name,
            f"id2label names classes {sorted(names)} of {config.num_labels}",
            "correct id2label in its config.json",
        )
    return [names[index] for index in sorted(names)]


class AudioClassifier:
    """A speech emotion checkpoint of transformers as a voter.

    Options: `model`, a folder or a name on the Hub; `labels`, the labels of unknown class names, or
    the name of a known order if no class name has a meaning; `attention` and `compile`; `licence`
    and `noncommercial`, as on the checkpoint's page.
    """

    def __init__(
        self,
        model: str,
        labels: Mapping[str, str] | str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "auto",
        compile: bool = False,
        licence: str = "the checkpoint's own",
        noncommercial: bool = False,
    ) -> None:
        where = place(device, dtype, attention, compile)
        auto: Any = AutoFeatureExtractor
        with translated(model):
            self._extractor: Any = auto.from_pretrained(locate(model), trust_remote_code=False)
        if self._extractor.sampling_rate != SAMPLE_RATE:
            raise OptionsError(
                model,
                f"it needs {self._extractor.sampling_rate} Hz, but segments have {SAMPLE_RATE} Hz",
                "use a checkpoint for 16 kHz",
            )
        self._classifier = _Classifier(AutoModelForAudioClassification, model, labels, where)
        config = self._classifier.config
        # only layer norm allows a mask: group norm averages over the whole padded row
        self._maskable = (
            config.model_type in _MASKED and getattr(config, "feat_extract_norm", "") == "layer"
        )
        self.card = self._classifier.card(
            "audio-classification", model, "audio", licence, noncommercial
        )
        warm_up(self, where)

    def vote(self, batch: Sequence[Utterance]) -> list[Answer]:
        """Return one answer for each segment."""
        labels = self._classifier.ballot_labels
        return serve(batch, lambda u: unfit_audio(u, SHORTEST), self._run, labels)

    def _run(self, batch: list[Utterance]) -> Tensor:
        # One by one: an extractor may scale a wave by the whole batch.
        made = [
            self._extractor(u.samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")
            for u in batch
        ]
        key = next(k for k in ("input_values", "input_features") if k in made[0])
        rows = [features[key][0] for features in made]
        if self._maskable:
            values, lengths = padded(rows)
            mask = valid(lengths, values.shape[1]).long()
            return self._classifier.probabilities(**{key: values, "attention_mask": mask})
        answers: dict[int, Tensor] = {}
        for shape in {row.shape for row in rows}:
            at = [i for i, row in enumerate(rows) if row.shape == shape]
            found = self._classifier.probabilities(**{key: torch.stack([rows[i] for i in at])})
            answers |= zip(at, found, strict=True)
        return torch.stack([answers[i] for i in range(len(rows))])


class TextClassifier:
    """A text emotion checkpoint of transformers as a voter. Same options as AudioClassifier."""

    def __init__(
        self,
        model: str,
        labels: Mapping[str, str] | str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "auto",
        compile: bool = False,
        licence: str = "the checkpoint's own",
        noncommercial: bool = False,
    ) -> None:
        with translated(model):
            folder = locate(model)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        where = place(device, dtype, attention, compile)
        self._classifier = _Classifier(AutoModelForSequenceClassification, model, labels, where)
        self._longest = min(self._tokenizer.model_max_length, _LONGEST_TEXT)
        self.card = self._classifier.card(
            "text-classification", model, "transcript", licence, noncommercial
        )
        warm_up(self, where)

    def vote(self, batch: Sequence[Utterance]) -> list[Answer]:
        """Return one answer for each transcript."""
        return serve(batch, unfit_text, self._run, self._classifier.ballot_labels)

    def _run(self, batch: list[Utterance]) -> Tensor:
        rows = [self.ids(utterance.transcript) for utterance in batch]
        if self._classifier.config.pad_token_id is None:  # the model finds a text's end by its pads
            return torch.cat([self._read(row[None], torch.ones(1, len(row))) for row in rows])
        ids, lengths = padded(rows)
        mask = valid(lengths, ids.shape[1])
        ids = ids.masked_fill(~mask, self._classifier.config.pad_token_id)
        return self._read(ids, mask)

    def _read(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self._classifier.probabilities(input_ids=ids, attention_mask=mask.long())

    def ids(self, transcript: str) -> Tensor:
        """Return a transcript's token ids; a special token's name in it stays ordinary text."""
        ids = self._tokenizer(
            transcript.strip(),
            truncation=True,
            max_length=self._longest,
            split_special_tokens=True,
        ).input_ids
        return torch.tensor(ids)
