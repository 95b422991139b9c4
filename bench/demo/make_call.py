"""Make the demo recording: a call of two synthetic voices, calm and excited by turns.

    apt-get install flite
    python -m abhinaya.bench.demo.make_call

The voices are `slt` and `rms` of CMU Flite, whose licence allows any use; the sentences were
written for this recording. The same Flite and FFmpeg make the same recording, byte for byte.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import av
import numpy as np
import numpy.typing as npt
import soxr

from abhinaya.bench.demo import CALL

FloatArray = npt.NDArray[np.float32]

RATE: Final = 16_000
_BIT_RATE: Final = 32_000
_NOISE_DB: Final = -62.0
_HUM_DB: Final = -66.0
_VOICES: Final = {"agent": "slt", "customer": "rms"}


@dataclass(frozen=True, slots=True)
class Turn:
    """Something that is said, and how."""

    who: Literal["agent", "customer"]
    text: str
    pause_s: float
    """Silence between the turn before and this one."""
    stretch: float = 1.0
    """Durations relative to the voice's own: below 1 is faster."""
    pitch_hz: float = 0.0
    """Mean pitch; 0 leaves the voice's own."""
    swing_hz: float = 0.0
    """Standard deviation of the pitch; 0 leaves the voice's own."""
    gain_db: float = 0.0


SCRIPT: Final = (
    Turn("agent", "Good morning, and thank you for calling. How can I help you today?", 0.6),
    Turn(
        "customer",
        "I am furious. You charged me twice, and nobody answers my letters. This is outrageous!",
        0.7,
        stretch=0.82,
        pitch_hz=150,
        swing_hz=34,
        gain_db=5,
    ),
    Turn(
        "agent",
        "I am so sorry to hear that. Let me look at your account.",
        0.6,
        stretch=1.05,
        pitch_hz=165,
        swing_hz=10,
        gain_db=-1,
    ),
    Turn(
        "customer",
        "That money was for my mother's birthday. She is very sick, and now I have nothing to "
        "give her. I feel so sad and alone.",
        1.1,
        stretch=1.2,
        pitch_hz=86,
        swing_hz=6,
        gain_db=-4,
    ),
    Turn("agent", "I see two payments of forty dollars, on the third of May.", 1.0),
    Turn(
        "agent",
        "Oh wow, this is a surprise! The second payment never left your bank.",
        0.8,
        stretch=0.9,
        pitch_hz=225,
        swing_hz=45,
        gain_db=2,
    ),
    Turn(
        "customer",
        "Really? I can't believe it! Are you sure?",
        0.5,
        stretch=0.88,
        pitch_hz=145,
        swing_hz=38,
        gain_db=3,
    ),
    Turn("agent", "Yes. It will be back in your account on Friday.", 0.6),
    Turn(
        "customer",
        "Thank you so much! That is wonderful. I am so happy and relieved. You are great!",
        0.7,
        stretch=0.92,
        pitch_hz=135,
        swing_hz=32,
        gain_db=2,
    ),
    Turn("agent", "You are welcome. Have a lovely day. Goodbye.", 0.6, pitch_hz=190, swing_hz=24),
)


def speak(turn: Turn) -> FloatArray:
    """Let Flite say a turn: [n] at RATE, at a level that depends on the turn alone."""
    command = ["flite", "-voice", _VOICES[turn.who], "--setf", f"duration_stretch={turn.stretch}"]
    if turn.pitch_hz:
        command += ["--setf", f"int_f0_target_mean={turn.pitch_hz}"]
    if turn.swing_hz:
        command += ["--setf", f"int_f0_target_stddev={turn.swing_hz}"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "turn.wav"
        subprocess.run([*command, "-t", turn.text, "-o", str(path)], check=True)
        with wave.open(str(path)) as file:
            data = np.frombuffer(file.readframes(file.getnframes()), "<i2")
            rate = file.getframerate()
    samples = soxr.resample(data.astype(np.float32) / 2**15, rate, RATE)
    loudness = float(np.sqrt(np.mean(np.square(samples))))
    level: FloatArray = (samples * (0.06 / loudness) * 10 ** (turn.gain_db / 20)).astype(np.float32)
    return level


def mix(script: tuple[Turn, ...]) -> FloatArray:
    """Lay the turns one after another: [n, 2], with the soft noise of a line in both channels."""
    parts = [(turn, speak(turn)) for turn in script]
    total = sum(round(turn.pause_s * RATE) + len(samples) for turn, samples in parts) + RATE
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
    # Without this the container gets a random serial number, and no two runs are equal.
    with av.open(str(path), "w", format="ogg", options={"fflags": "+bitexact"}) as file:
        track = file.add_stream("libopus", rate=48_000, layout="stereo")
        track.bit_rate = _BIT_RATE
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(soxr.resample(call, RATE, 48_000).T),
            format="fltp",
            layout="stereo",
        )
        frame.sample_rate = 48_000
        fit = av.AudioResampler(
            track.codec_context.format.name,
            "stereo",
            48_000,
            frame_size=track.codec_context.frame_size,
        )
        for part in [*fit.resample(frame), *fit.resample(None)]:
            file.mux(track.encode(part))
        file.mux(track.encode(None))


def main() -> int:
    """Write the recording to its place in the package."""
    try:
        call = mix(SCRIPT)
    except FileNotFoundError:
        print("flite is not installed: apt-get install flite", file=sys.stderr)
        return 1
    write(call, CALL)
    print(f"{CALL}: {len(call) / RATE:.1f} s, {CALL.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
