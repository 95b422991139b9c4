"""Writes the card of a weights file: data, limits, licence and figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final


@dataclass(frozen=True)
class Background:
    """Facts of a model that do not depend on the run."""

    licence: str
    noncommercial: bool
    data: tuple[str, ...]
    limits: tuple[str, ...]


SPEECH_DATA: Final = (
    "levels 1 and 2 of the encoder of Whisper tiny.en, unchanged and not in this file (MIT)",
    "RAVDESS, speech of actors 1-16 (CC BY-NC-SA 4.0); 17 and 18 are measured",
    "nEMO, seven Polish speakers (CC BY-NC-SA 4.0); KD0 and SM0 are measured",
    "LibriSpeech, half of 261 readers as neutral, the other half measured (CC BY 4.0)",
)
TEXT_DATA: Final = (
    "GoEmotions train, Ekman grouping (Apache-2.0)",
    "EmoryNLP train, without Peaceful and Powerful (Apache-2.0)",
    "before these: all-MiniLM-L6-v2, a sentence encoder (Apache-2.0)",
)
CONTEMPT: Final = (
    "Never says contempt (probability 0): there was nothing with that label to learn from, and "
    "contempt is not validated."
)
ACTED: Final = (
    "Learnt from acted speech of few people, in English and Polish; natural emotion is weaker."
)
ALARMS: Final = (
    "Calls some neutral speech of strangers emotional, most of all in other languages, in meetings "
    "and by telephone: see the neutral figures before an alarm hangs on one label. Neutral is "
    "learnt from many readers, so that weak emotion may pass for it."
)
NOT_FOR: Final = "Not for decisions about people: hiring, health, policing, credit."

BACKGROUNDS: Final[Mapping[str, Background]] = {
    "tiny-speech": Background(
        "CC-BY-NC-SA-4.0", True, SPEECH_DATA, (ACTED, CONTEMPT, ALARMS, NOT_FOR)
    ),
    "tiny-text": Background(
        "Apache-2.0",
        False,
        TEXT_DATA,
        (
            "Learnt from written comments and scripted dialogue, in English only.",
            CONTEMPT,
            "One sentence without what was said before it.",
            NOT_FOR,
        ),
    ),
    "tiny-joint": Background(
        "CC-BY-NC-SA-4.0",
        True,
        (*SPEECH_DATA, *TEXT_DATA, "RECCON's part of DailyDialog, train (CC BY-NC-SA 4.0)"),
        (
            ACTED,
            CONTEMPT,
            ALARMS,
            "Learnt from voices and sentences paired by label, not from real talk.",
            NOT_FOR,
        ),
    ),
}


def write_card(
    weights: Path,
    model: str,
    version: str,
    figures: Mapping[str, Any],
    made_by: str,
    trial: Sequence[float] = (),
) -> Path:
    """Write the card next to `weights`; `figures` may be empty before they are measured.

    `made_by` is the command that wrote the weights, `trial` the answer to the test recording.
    """
    path = weights.with_suffix(".json")
    card = {
        "model": model,
        "version": version,
        "made_by": made_by,
        **asdict(BACKGROUNDS[model]),
        "trial": [round(p, 4) for p in trial],
        "figures": dict(figures),
    }
    return _write(path, card)


def measured(weights: Path, model: str, version: str, figures: Mapping[str, Any]) -> Path:
    """Replace the figures in the card next to `weights`; write a card if there is none."""
    path = weights.with_suffix(".json")
    if not path.is_file():
        return write_card(weights, model, version, figures, "not stated")
    card = {**json.loads(path.read_text(encoding="utf-8")), "figures": dict(figures)}
    return _write(path, card)


def _write(path: Path, card: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
