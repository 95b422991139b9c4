"""`encoder` and `fusion`: a network over pre-trained encoders, each frozen or trained.

Frozen encoders are outside the module: no checkpoint has them, and their features can be stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from abhinaya.models.checkpoint import Tensors
from abhinaya.models.hugging_face import locate
from abhinaya.models.inference import Place
from abhinaya.models.published.encoders import files_of, frames_of, load_encoder, rows_of
from abhinaya.models.published.feature_cache import FeatureCache, features_of, item_key, model_key
from abhinaya.models.published.fusion import Network
from abhinaya.models.published.network_file import NetworkFile, load_network, save_network
from abhinaya.models.published.specs import EncoderSpec, NetworkSpec
from abhinaya.models.published.voting_batch import padded
from abhinaya.models.published.wavlm import WaveNorm
from abhinaya.train.learners.base import Example, Inputs, Learner, Outputs, ordered, start_from


def network_learner(
    spec: NetworkSpec,
    outputs: Outputs,
    where: Place,
    norm: WaveNorm,
    start: str,
    cache: FeatureCache | None = None,
) -> Learner:
    """Build a trainable network."""
    encoders = [load_encoder(member, norm) for member in spec.members]
    module = Network(spec, encoders, {head: len(names) for head, names in outputs.heads.items()})
    if start:
        _start(module, outputs, start)
    for encoder in encoders:
        if encoder.spec.frozen:
            nn.Module.to(encoder, where.device, where.dtype)
    keys = [_key(m, norm, where) if cache and m.frozen else "" for m in spec.members]
    file = NetworkFile(spec, dict(outputs.heads), norm)

    def inputs(examples: Sequence[Example]) -> Inputs:
        """Prepare what trained encoders read; frozen ones get waves and texts."""
        samples, texts = [e.samples for e in examples], [e.transcript for e in examples]
        found: Inputs = {"names": [e.name for e in examples]}
        for i, encoder in enumerate(encoders):
            rows: Any = rows_of(encoder, samples, texts)
            if encoder.spec.frozen:
                text = encoder.spec.modality == "text"
                stored = [bool(keys[i]) and (text or e.repeats) for e in examples]
                named = zip(rows, stored, strict=True)
                found[f"rows{i}"] = rows
                found[f"keys{i}"] = [item_key(keys[i], row) if s else "" for row, s in named]
            else:
                found[f"x{i}"], found[f"n{i}"] = encoder.reader.prepare(rows)
        return found

    def features(i: int, given: Inputs) -> tuple[Tensor, Tensor]:
        """Return the frames of a frozen encoder, stored or computed, padded, and their number."""
        rows: Any = given[f"rows{i}"]

        def compute(missing: list[int]) -> list[Tensors]:
            made = frames_of(encoders[i], [rows[k] for k in missing], where.device)
            return [{"x": frames} for frames in made]

        found = features_of(cache, given["names"], given[f"keys{i}"], compute)
        x, n = padded([one["x"].to(where.device) for one in found])
        return x, n.to(where.device)

    def arguments(given: Inputs) -> tuple[Any, Any]:
        """Return the inputs of each member, and how to mix the batch."""
        pairs = [
            features(i, given) if encoder.spec.frozen else (given[f"x{i}"], given[f"n{i}"])
            for i, encoder in enumerate(encoders)
        ]
        return pairs, given.get("mix")

    return Learner(
        module,
        inputs,
        lambda folder, state, extra: save_network(module, file, folder, state, extra),
        outputs,
        model="encoder" if len(encoders) == 1 else "fusion",
        arguments=arguments,
        shortest=max(encoder.shortest for encoder in encoders),
    )


def _key(member: EncoderSpec, norm: WaveNorm, where: Place) -> str:
    """Return the key in the cache of a frozen encoder: its files, and what changes its frames."""
    named = {k: getattr(member, k) for k in ("layers", "max_s", "max_tokens", "normalise")}
    scaled = asdict(norm) if member.normalise == "global" else {}
    return model_key(files_of(member), dtype=str(where.dtype), **named, **scaled)


def _start(module: Network, outputs: Outputs, folder: str) -> None:
    """Load the weights of a checkpoint; heads that only one of the two has are left alone."""
    file, found, _ = load_network(locate(folder))
    lost = tuple(f"heads.{head}." for head in file.heads if head not in outputs.heads)
    state = {k: t for k, t in found.state_dict().items() if not k.startswith(lost)}
    for head in outputs.heads.keys() & file.heads:
        layer = f"heads.{head}.out"
        state = ordered(state, file.heads[head], outputs.heads[head], layer, folder)
    start_from(module, state, folder)
