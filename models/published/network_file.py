"""The checkpoint of `encoder` and `fusion`: a folder with config.json and model.safetensors.

It holds all weights that were trained, whole encoders among them, with config and tokenizer in
encoders/NUMBER. Frozen encoders, and those under LoRA, are loaded by their names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from abhinaya.models.checkpoint import Tensors, fill, read, save
from abhinaya.models.errors import DamagedFileError, KeysError, MissingFileError, WriteError
from abhinaya.models.fields import Faults, build
from abhinaya.models.published.encoders import Encoder, load_encoder
from abhinaya.models.published.fusion import Network
from abhinaya.models.published.lora import is_lora
from abhinaya.models.published.specs import NetworkSpec
from abhinaya.models.published.wavlm import WaveNorm

CONFIG: Final = "config.json"


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """What a config.json says."""

    spec: NetworkSpec
    heads: Mapping[str, Sequence[str]]
    """Names of the outputs of each head, in order."""
    norm: WaveNorm
    """Mean and deviation of the training clips, for encoders that scale by them."""


def _whole(spec_train: str) -> bool:
    """Whether the checkpoint has all weights of an encoder."""
    return spec_train == "tuned" or spec_train.startswith("top:")


def _kept(module: Network, tensors: Mapping[str, Any]) -> Tensors:
    """Return the weights that a checkpoint has: all but those of encoders under LoRA."""
    under = [f"encoders.{i}." for i, m in enumerate(module.spec.members) if m.train == "lora"]
    return {k: t for k, t in tensors.items() if is_lora(k) or not k.startswith(tuple(under))}


def save_network(
    module: Network, file: NetworkFile, folder: Path, state: Tensors, extra: Mapping[str, Any]
) -> None:
    """Write a checkpoint; `state` has the network's weights.

    Raises:
        WriteError: a file cannot be written.

    """
    members = list(file.spec.members)
    for i, member in enumerate(members):
        if _whole(member.train):
            place = f"encoders/{i}"
            encoder: Any = module.encoders[str(i)]
            encoder.save(folder / place)
            members[i] = replace(member, name=place)
    table = asdict(replace(file, spec=replace(file.spec, members=tuple(members))))
    try:
        (folder / CONFIG).write_text(json.dumps(table, indent=1), "utf-8")
    except OSError as error:
        raise WriteError(folder, f"{CONFIG} cannot be written ({error})", "make room") from error
    save(folder / "model.safetensors", _kept(module, state), extra)


def load_network(folder: Path) -> tuple[NetworkFile, Network, list[Encoder]]:
    """Load a checkpoint: what it is, the network, and all its encoders; in evaluation mode.

    Raises:
        ModelError: a file is missing, damaged, or of another model.

    """
    file = _read(folder)
    encoders = []
    for member in file.spec.members:
        inside = _whole(member.train)
        here = replace(member, name=str(folder / member.name)) if inside else member
        encoders.append(load_encoder(here, file.norm, weights=not inside))
    module = Network(file.spec, encoders, {head: len(names) for head, names in file.heads.items()})
    own = module.state_dict()
    below = {k: t for k, t in own.items() if k not in _kept(module, own)}
    fill(module, below | read(folder).tensors, folder)
    return file, module.eval(), encoders


def _read(folder: Path) -> NetworkFile:
    path = folder / CONFIG
    if not path.is_file():
        raise MissingFileError(folder, f"it has no {CONFIG}", "give the folder of a checkpoint")
    try:
        table = json.loads(path.read_text("utf-8"))
        faults = Faults({})
        spec = build(NetworkSpec, table["spec"], "spec.", faults)
        file = NetworkFile(spec, table["heads"], WaveNorm(**table["norm"]))
    except ValueError as error:
        raise DamagedFileError(path, f"it is not JSON ({error})", "copy it again") from error
    except (KeyError, TypeError) as error:
        raise KeysError(
            path, f"it is of another model ({error!r})", "use the voter that it was trained for"
        ) from error
    if found := faults.texts or [text for text, _ in spec.faults()]:
        raise KeysError(path, "; ".join(found), "use the version that wrote it")
    return file
