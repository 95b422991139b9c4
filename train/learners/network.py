"""`encoder` and `fusion`: a network over pre-trained encoders, each frozen or trained.

Frozen encoders are outside the module: no checkpoint has them, and their features can be stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from abhinaya.models.hugging_face import locate
from abhinaya.models.inference import Place
from abhinaya.models.published.encoders import Encoder, Rows, frames_of, load_encoder, rows_of
from abhinaya.models.published.fusion import Network
from abhinaya.models.published.network_file import NetworkFile, load_network, save_network
from abhinaya.models.published.specs import NetworkSpec
from abhinaya.models.published.voting_batch import padded
from abhinaya.models.published.wavlm import WaveNorm
from abhinaya.train.learners.base import Example, Inputs, Learner, Outputs, ordered, start_from


def network_learner(
    spec: NetworkSpec, outputs: Outputs, where: Place, norm: WaveNorm, start: str
) -> Learner:
    """Build a trainable network."""
    encoders = [load_encoder(member, norm) for member in spec.members]
    module = Network(spec, encoders, {head: len(names) for head, names in outputs.heads.items()})
    if start:
        _start(module, outputs, start)
    for encoder in encoders:
        if encoder.spec.frozen:
            nn.Module.to(encoder, where.device, where.dtype)
    file = NetworkFile(spec, dict(outputs.heads), norm)

    def inputs(examples: Sequence[Example]) -> Inputs:
        """Prepare what trained encoders read; frozen ones get waves and texts."""
        samples, texts = [e.samples for e in examples], [e.transcript for e in examples]
        found: Inputs = {"names": [e.name for e in examples]}
        for i, encoder in enumerate(encoders):
            rows = rows_of(encoder, samples, texts)
            if encoder.spec.frozen:
                found[f"rows{i}"] = rows
            else:
                found[f"x{i}"], found[f"n{i}"] = encoder.reader.prepare(rows)
        return found

    def features(encoder: Encoder, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return the frames of a frozen encoder, padded, and their number [B]."""
        x, n = padded(frames_of(encoder, rows, where.device))
        return x, n.to(where.device)

    def arguments(given: Inputs) -> tuple[Any, Any]:
        """Return the inputs of each member, and how to mix the batch."""
        pairs = [
            features(encoder, given[f"rows{i}"])
            if encoder.spec.frozen
            else (given[f"x{i}"], given[f"n{i}"])
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


def _start(module: Network, outputs: Outputs, folder: str) -> None:
    """Load the weights of a checkpoint; heads that only one of the two has are left alone."""
    file, found, _ = load_network(locate(folder))
    lost = tuple(f"heads.{head}." for head in file.heads if head not in outputs.heads)
    state = {k: t for k, t in found.state_dict().items() if not k.startswith(lost)}
    for head in outputs.heads.keys() & file.heads:
        layer = f"heads.{head}.out"
        state = ordered(state, file.heads[head], outputs.heads[head], layer, folder)
    start_from(module, state, folder)
