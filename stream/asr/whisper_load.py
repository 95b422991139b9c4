"""Loading a Whisper model, with whatever stands in the way said in our own words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from abhinaya.stream.errors import ModelError


def load(model: str, **options: Any) -> Any:
    """Load a model of faster-whisper.

    Args:
        model: a size, a repository of converted models, or a local CTranslate2 folder.
        options: of `faster_whisper.WhisperModel`.

    Raises:
        ModelError: the model or device cannot be had.

    """
    subject = f"Whisper model {model!r}"
    looks_like_path = model.startswith((".", "/", "~"))
    folder = str(Path(model).expanduser()) if looks_like_path else model
    if looks_like_path and not Path(folder).is_dir():
        raise ModelError(subject, "no such folder", "give a folder converted for CTranslate2")
    if Path(folder).is_dir() and not (Path(folder) / "model.bin").is_file():
        raise ModelError(
            subject,
            "is not a CTranslate2 model: it has no model.bin",
            "convert it with ct2-transformers-converter",
        )
    from faster_whisper import WhisperModel

    try:
        return WhisperModel(folder, **options)
    except Exception as error:  # the hub, the network, CUDA and CTranslate2 raise what they like
        raise ModelError(
            subject,
            f"cannot be loaded: {_first_line(error)}",
            _remedy(error, Path(folder).is_dir()),
        ) from error


def _remedy(error: Exception, local: bool) -> str:
    text = str(error).lower()
    if "invalid model size" in text:
        return "give one of these sizes, a repository, or a local folder"
    if "cuda" in text or "cublas" in text or "cudnn" in text:
        return "use --asr.options.device=cpu, or install a CUDA that CTranslate2 knows"
    if "compute type" in text:
        return "choose a compute_type that this device has, or `default`"
    if local:
        return "convert it again with ct2-transformers-converter"
    return "check the network, or put the model on this machine and give its folder as `model`"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
