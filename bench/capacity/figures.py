"""The figures that a plan rests on, each table with its source; read from a TOML file."""

from __future__ import annotations

import importlib.resources
import itertools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from abhinaya.models.errors import near_miss
from abhinaya.models.fields import Faults, build, setting
from abhinaya.models.toml import parse_toml
from abhinaya.stream.errors import ConfigError
from abhinaya.stream.settings.config import WorkerConfig

SOURCE = "command, machine and date; or `assumption: ...`, or `published: ...`"


@dataclass(frozen=True, slots=True)
class Speech:
    """How often and how long a channel speaks."""

    source: str = setting(doc=SOURCE)
    lengths_s: tuple[float, ...] = setting(doc="quantiles of a segment's length, evenly spaced")
    pauses_s: tuple[float, ...] = setting(doc="the same of the time to the next segment")
    channels: int = setting(doc="channels of one call", least=1, most=32)

    @property
    def mean_s(self) -> float:
        """Return the mean length of a segment."""
        return mean(self.lengths_s)

    @property
    def segments_per_s(self) -> float:
        """Return the segments a second of one channel."""
        return 1 / (self.mean_s + mean(self.pauses_s))


@dataclass(frozen=True, slots=True)
class Hub:
    """What a hub uses."""

    source: str = setting(doc=SOURCE)
    segment_s: float = setting(doc="seconds of its loop for a segment or partial", least=1e-9)
    task_s: float = setting(doc="the same for each task of it", least=0)
    io_s_per_mib: float = setting(doc="seconds of its I/O thread for 1 MiB, with CURVE", least=0)
    mib: float = setting(doc="memory without streams", least=0)
    stream_kib: float = setting(doc="memory of one stream", least=0)


@dataclass(frozen=True, slots=True)
class Wire:
    """Sizes of messages; audio is int16 at 16 kHz."""

    source: str = setting(doc=SOURCE)
    message_bytes: float = setting(doc="of a message without its audio", least=0)
    verdict_bytes: float = setting(doc="of a verdict with all votes and words", least=0)


@dataclass(frozen=True, slots=True)
class Gateway:
    """What calls cost that are pushed to `abhinaya serve`."""

    source: str = setting(doc=SOURCE)
    main_cores: float = setting(doc="of a core for a call: gateway and recorder", least=0)
    push_cores: float = setting(doc="of a core for a call: push front, voice activity", least=0)
    main_mib: float = setting(doc="memory of the gateway without calls", least=0)
    push_mib: float = setting(doc="memory of a push front without calls", least=0)
    call_mib: float = setting(doc="memory of a call in both together", least=0)


@dataclass(frozen=True, slots=True)
class Protocols:
    """What the protocols of pushed calls cost the gateway on top."""

    source: str = setting(doc=SOURCE)
    websocket: float = setting(doc="of a core for a call: WebSocket of a provider", least=0)
    siprec: float = setting(doc="of a core for a call: SIPREC", least=0)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What an address or file costs that `abhinaya-stream` reads."""

    source: str = setting(doc=SOURCE)
    cores: float = setting(doc="of a core for a channel", least=0)
    mib: float = setting(doc="memory of a front process, one for each live input", least=0)


@dataclass(frozen=True, slots=True)
class Targets:
    """How full a plan makes things."""

    source: str = setting(doc=SOURCE)
    hub_use: float = setting(doc="share of a hub's time", least=0.01, most=1)
    node_use: float = setting(doc="share of a node's time, live streams", least=0.01, most=1)
    lost_use: float = setting(doc="the same while one cell is lost", least=0.01, most=1)
    file_use: float = setting(doc="the same for files, which can wait", least=0.01, most=1)
    network_use: float = setting(doc="share of a machine's network", least=0.01, most=1)
    process_use: float = setting(doc="share of a core, gateways and fronts", least=0.01, most=1)
    least_nodes: int = setting(doc="nodes of a service in each cell", least=1, most=64)


@dataclass(frozen=True, slots=True)
class Cascade:
    """How often the voters of `vote.cascade` are asked."""

    source: str = setting(doc=SOURCE)
    asked: float = setting(doc="share of the segments", least=0, most=1)


@dataclass(frozen=True, slots=True)
class Efficiency:
    """What models reach of a GPU's published figures."""

    source: str = setting(doc=SOURCE)
    compute: float = setting(doc="share of its FLOPs a second", least=0.001, most=1)
    memory: float = setting(doc="share of its memory's bandwidth", least=0.001, most=1)
    reserve: float = setting(doc="share of its memory for activations", least=0, most=0.9)


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of machine."""

    source: str = setting(doc=SOURCE)
    cores: int = setting(doc="processor cores", least=1)
    memory_gib: float = setting(doc="memory", least=0.1)
    gbit: float = setting(doc="Gbit/s of its network, in each direction", least=0.01)
    gpus: int = setting(0, doc="GPUs", least=0)


@dataclass(frozen=True, slots=True)
class Gpu:
    """A kind of GPU."""

    source: str = setting(doc=SOURCE)
    memory_gb: float = setting(doc="memory", least=0.1)
    tflops: float = setting(doc="dense bfloat16 TFLOPs a second", least=0.001)
    gb_per_s: float = setting(doc="bandwidth of its memory", least=0.1)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a segment costs a model: processor seconds, or FLOPs and bytes of a GPU."""

    source: str = setting(doc=SOURCE)
    cpu_s: float = setting(0.0, doc="processor seconds for a segment of mean length", least=0)
    mib: float = setting(0.0, doc="memory of the process", least=0)
    memory_gb: float = setting(0.0, doc="memory of the weights on a GPU", least=0)
    tflop: float = setting(0.0, doc="TFLOPs for a segment of any length", least=0)
    tflop_per_s: float = setting(0.0, doc="TFLOPs more for each second of it", least=0)
    steps: int = setting(1, doc="passes one after the other: one, and one a token", least=1)
    step_gb: float = setting(0.0, doc="GB of weights read in each; 0: all", least=0)
    batch: int = setting(0, doc="segments in a batch of its server; 0: of the profile", least=0)
    concurrency: int = setting(0, doc="requests of one node at its server; 0: not served", least=0)
    state_kib: float = setting(0.0, doc="state that each segment carries to the next", least=0)


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures."""

    speech: Speech = field(metadata={"doc": "speech"})
    hub: Hub = field(metadata={"doc": "the hub"})
    wire: Wire = field(metadata={"doc": "sizes of messages"})
    gateway: Gateway = field(metadata={"doc": "pushed calls"})
    protocols: Protocols = field(metadata={"doc": "protocols of pushed calls"})
    inputs: Inputs = field(metadata={"doc": "inputs that are read"})
    targets: Targets = field(metadata={"doc": "how full things may be"})
    cascade: Cascade = field(metadata={"doc": "the cascade of the vote"})
    efficiency: Efficiency = field(metadata={"doc": "of GPUs"})
    machines: Mapping[str, Machine] = field(metadata={"doc": "machines `gpu` and `cpu`"})
    gpus: Mapping[str, Gpu] = field(metadata={"doc": "GPUs by name"})
    models: Mapping[str, Cost] = field(metadata={"doc": "models by name"})

    def cost(self, service: str, worker: WorkerConfig) -> tuple[str, Cost]:
        """Return the name and the cost of the model of a service.

        Raises:
            ConfigError: the figures do not have the model.

        """
        names = [worker.model]
        if option := worker.options.get("model"):
            names.insert(0, f"{worker.model}/{option}")
        for name in names:
            if name in self.models:
                return name, self.models[name]
        raise ConfigError(
            f"model {names[0]!r} of {service}",
            "is not in the figures",
            f'add [models."{names[0]}"] for --figures, {near_miss(names[0], self.models)}',
        )

    def gpu(self, name: str) -> Gpu:
        """Return a kind of GPU.

        Raises:
            ConfigError: the figures do not have it.

        """
        if name not in self.gpus:
            raise ConfigError(f"GPU {name!r}", "is not in the figures", near_miss(name, self.gpus))
        return self.gpus[name]


def load(path: Path | None = None) -> Figures:
    """Return the figures of a file, or those of the package.

    Raises:
        ConfigError: names all faults of the file.

    """
    where = str(path or "figures.toml of the package")
    try:
        text = path.read_text("utf-8") if path else packaged()
        table: dict[str, Any] = parse_toml(text)
    except OSError as error:
        raise ConfigError(f"figures {where}", f"cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"figures {where}", f"are not TOML: {error}") from error
    faults = Faults({})
    figures = build(Figures, table, "", faults)
    if not faults.texts:
        faults.texts += _faults(figures)
    if faults.texts:
        remedy = "`abhinaya plan --measure FILE` writes a whole file"
        raise ConfigError(f"figures {where}", "; ".join(faults.texts), remedy)
    return figures


def packaged() -> str:
    """Return the figures of the package, as TOML."""
    return (importlib.resources.files("abhinaya.bench.capacity") / "figures.toml").read_text(
        "utf-8"
    )


def mean(quantiles: tuple[float, ...]) -> float:
    """Return the mean of a distribution with evenly spaced quantiles."""
    pairs = itertools.pairwise(quantiles)
    return sum((a + b) / 2 for a, b in pairs) / (len(quantiles) - 1)


def _faults(figures: Figures) -> list[str]:
    found = []
    for name in ("lengths_s", "pauses_s"):
        values = getattr(figures.speech, name)
        if len(values) < 2 or any(v < 0 for v in values) or list(values) != sorted(values):
            found.append(f"speech.{name} must have two or more values from 0, in rising order")
    if not found and not figures.speech.mean_s + mean(figures.speech.pauses_s) > 0:
        found.append("speech has neither length nor pauses")
    if not found and not 0 < figures.speech.lengths_s[0] <= figures.speech.lengths_s[-1] <= 10:
        found.append("speech.lengths_s must lie above 0 and within 10 s")
    found += [f"machines.{n} is missing" for n in ("cpu", "gpu") if n not in figures.machines]
    if not found and not figures.machines["gpu"].gpus:
        found.append("machines.gpu has no GPUs")
    for name, cost in figures.models.items():
        if not (cost.cpu_s or cost.tflop or cost.tflop_per_s):
            found.append(f"models.{name} has neither cpu_s nor tflop")
        elif not cost.cpu_s and not cost.memory_gb:
            found.append(f"models.{name} has no memory_gb")
    return found
