"""Who turns speech into text: transcribers behind one protocol."""

from abhinaya.stream.asr.base import Audio, Hearing, SpokenWord, Transcriber, Transcription
from abhinaya.stream.asr.load import TRANSCRIBERS, load_transcriber

__all__ = [
    "TRANSCRIBERS",
    "Audio",
    "Hearing",
    "SpokenWord",
    "Transcriber",
    "Transcription",
    "load_transcriber",
]
