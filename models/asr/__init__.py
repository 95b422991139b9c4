"""Speech to text: transcribers behind one protocol."""

from abhinaya.models.asr.base import Audio, Hearing, SpokenWord, Transcriber, Transcription
from abhinaya.models.asr.load import TRANSCRIBERS, load_transcriber

__all__ = [
    "TRANSCRIBERS",
    "Audio",
    "Hearing",
    "SpokenWord",
    "Transcriber",
    "Transcription",
    "load_transcriber",
]
