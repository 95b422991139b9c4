"""A fitted combiner: a vote rule, the voters that it was fitted on, and how well it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from abhinaya.models.vote.fitted import MEAN, Fitted, Fusion

Method = Literal["majority", "mean", "weighted", "uncertainty", "logistic", "mlp", "forest"]
"""Name of a vote rule, see `ensemble`."""
FROM_FILE: Final[tuple[Method, ...]] = ("logistic", "mlp", "forest")
"""Rules that need a fitted file."""


@dataclass(frozen=True, slots=True)
class Member:
    """A voter that a combiner was fitted on."""

    model: str = ""
    """Empty if the predictions did not name the model."""
    version: str = ""
    temperature: float = 1.0
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Combiner:
    """A vote rule fitted on predictions for speakers that no voter was trained on."""

    method: Method
    members: Mapping[str, Member]
    """Members by voter name."""
    min_confidence: float = 0.0
    """Confidence below which the label is `unknown`; 0 never withholds a label."""
    fitted: Fitted | None = None
    """For the methods of FROM_FILE."""
    fusion: Fusion = MEAN
    """How the members' attributes are fused."""
    made_by: str = ""
    """Command that wrote the file."""
    fitted_on: Mapping[str, object] = field(default_factory=dict)
    """Data, its hash and the chosen options, for information."""
    metrics: Mapping[str, object] = field(default_factory=dict)
    """Cross-validated figures on speakers left out of each fit, for information."""

    @property
    def temperatures(self) -> dict[str, float]:
        """Temperature of each voter."""
        return {name: member.temperature for name, member in self.members.items()}

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each voter in the weighted mean."""
        return {name: member.weight for name, member in self.members.items()}

    def fault(self, voter: str, model: str, version: str = "") -> str:
        """Return why the combiner cannot use this voter; empty if it can."""
        member = self.members.get(voter)
        if member is None:
            return f"it was fitted on {', '.join(sorted(self.members))}, not on {voter}"
        if member.model and model != member.model:
            return f"it was fitted on {voter} as {member.model}, which is now {model}"
        if member.version and version and version != member.version:
            return f"it was fitted on {member.model} {member.version} as {voter}, not {version}"
        return ""
