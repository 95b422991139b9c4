"""The voters `encoder` and `fusion`: networks that `abhinaya train` made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from torch import Tensor, nn

from abhinaya.models.base import SAMPLE_RATE, Card, Utterance
from abhinaya.models.errors import LabelsError
from abhinaya.models.hugging_face import locate
from abhinaya.models.inference import compile_if_asked, moved, place, warm_up, weigh
from abhinaya.models.labels import label_map
from abhinaya.models.published.encoders import frames_of, rows_of
from abhinaya.models.published.network_file import load_network
from abhinaya.models.published.voting_batch import (
    Answer,
    answers,
    padded,
    serve,
    unfit_audio,
    unfit_text,
)

OTHER: Final = "other"
"""A class that a network may learn but never answers."""
ANSWERED: Final = ("primary", "attributes")
"""Heads that a voter answers with."""


class NetworkVoter:
    """A network over one or several encoders, of audio, text or both.

    Options: `checkpoint`, the folder that training wrote, or a name on the Hub; `labels`, the
    labels of unknown class names; `compile`; `licence` and `noncommercial`, of the checkpoint and
    of its frozen encoders. The voter abstains if a segment lacks what an encoder reads.
    """

    def __init__(
        self,
        checkpoint: str,
        labels: Mapping[str, str] | None = None,
        device: str = "auto",
        dtype: str = "auto",
        compile: bool = False,
        licence: str = "the checkpoint's own",
        noncommercial: bool = False,
    ) -> None:
        self._place = place(device, dtype, compile=compile)
        file, self._network, self._encoders = load_network(locate(checkpoint))
        outputs = [(head, name) for head, names in file.heads.items() for name in names]
        kept = [one for one in outputs if one[0] in ANSWERED and one[1] != OTHER]
        if not kept:
            raise LabelsError(checkpoint, "it has no labels and no attributes", "use another")
        self._columns = [outputs.index(one) for one in kept]
        self._labels = label_map([name for _, name in kept], checkpoint, labels)
        self._network.requires_grad_(False).to(self._place.device)
        for encoder in self._encoders:
            nn.Module.to(encoder.requires_grad_(False), self._place.device, self._place.dtype)
            compile_if_asked(self._place, encoder.model)
        self._needs = file.spec.needs
        self._shortest = max(encoder.shortest for encoder in self._encoders)
        self.card = Card(
            model="encoder" if len(self._encoders) == 1 else "fusion",
            version=Path(checkpoint).name,
            needs=self._needs,
            labels=self._labels.labels,
            attributes=bool(self._labels.attributes),
            licence=licence,
            noncommercial=noncommercial,
            notes=tuple(f"reads with {m.name}" for m in file.spec.members if m.train == "frozen"),
            sample_rate_hz=SAMPLE_RATE if "audio" in self._needs else None,
            longest_s=max(
                (m.max_s for m in file.spec.members if m.modality == "audio"), default=None
            ),
            **asdict(weigh(self._network, *self._encoders)),
        )
        warm_up(self, self._place)

    def vote(self, batch: Sequence[Utterance]) -> list[Answer]:
        """Return one answer for each segment."""
        return serve(batch, self._unfit, self._run, self._labels)

    def _unfit(self, utterance: Utterance) -> str | None:
        audio = unfit_audio(utterance, self._shortest) if "audio" in self._needs else None
        text = unfit_text(utterance) if "transcript" in self._needs else None
        return audio or text

    def _run(self, batch: list[Utterance]) -> Tensor:
        samples, texts = [u.samples for u in batch], [u.transcript for u in batch]
        inputs = []
        for encoder in self._encoders:
            rows = rows_of(encoder, samples, texts)
            if encoder.spec.frozen:
                x, n = padded(frames_of(encoder, rows, self._place.device))
                inputs.append((x, moved(n, self._place)))
            else:
                x, n = encoder.reader.prepare(rows)
                inputs.append((moved(x, self._place), moved(n, self._place)))
        scores: Tensor = self._network(inputs)
        return answers(scores[:, self._columns], self._labels)
