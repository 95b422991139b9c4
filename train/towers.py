"""The networks behind the compact voters, as torch modules. Small enough to train on two cores.

Padding never reaches a result: after every layer the frames beyond the end are set to zero again,
which is what a convolution sees beyond the end of a clip that is alone.

B batch, T frames, M mel bins, F = M + N_TONES features, Q numbers of a manner, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from abhinaya.models.base import FloatArray
from abhinaya.models.compact.features import N_MELS
from abhinaya.models.compact.manner import COUNT, TRUSTED_FROM
from abhinaya.models.compact.measure import N_TONES


class AttentiveStatistics(nn.Module):
    """Weighted mean and deviation over time (Okabe, Koshinaka, Shinoda, 2018), with a mask."""

    def __init__(self, width: int, hidden: int = 64) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, T, D] and mask [B, T] (1 inside, 0 beyond the end) -> [B, 2 D]."""
        scores = self.score(x).squeeze(-1).masked_fill(mask < 0.5, -1e4)
        weights = torch.softmax(scores, dim=1).unsqueeze(-1)
        mean = (weights * x).sum(dim=1)
        spread = (weights * (x - mean.unsqueeze(1)) ** 2).sum(dim=1)
        return torch.cat([mean, torch.sqrt(spread.clamp_min(1e-5))], dim=1)


class _Plane(nn.Module):
    """Convolution over time and frequency, batch norm, ReLU, mask."""

    def __init__(self, inside: int, outside: int, time_stride: int) -> None:
        super().__init__()
        self.time_stride = time_stride
        self.conv = nn.Conv2d(inside, outside, 3, stride=(time_stride, 2), padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outside)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """[B, D, T, M] -> [B, D', T', M / 2] and the mask [B, T'] that fits it."""
        mask = mask[:, :: self.time_stride]
        x = torch.relu(self.norm(self.conv(x)))
        return x * mask[:, None, :, None], mask


class _Line(nn.Module):
    """Residual convolution over time, with a mask."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, D, T] -> [B, D, T]."""
        return (x + torch.relu(self.norm(self.conv(x)))) * mask[:, None, :]


class _Tones(nn.Module):
    """Two convolutions over the course of the pitch, as slow in the end as the planes are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inside = (N_TONES, width // 2)
        self.convs = nn.ModuleList(
            nn.Conv1d(a, b, 5, stride=2, padding=2, bias=False)
            for a, b in zip(inside, (width // 2, width), strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(b) for b in (width // 2, width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """[B, N_TONES, T] and mask [B, T] -> [B, D, T / 4]."""
        x = x * mask[:, None, :]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            mask = mask[:, ::2]
            x = torch.relu(norm(conv(x))) * mask[:, None, :]
        return x


class SpeechTower(nn.Module):
    """Frames by the measure of what was heard -> logits.

    Energies go through four planes, the pitch beside them through two lines of its own; both
    together through two lines and attentive statistics.
    """

    def __init__(
        self, classes: int, planes: tuple[int, int, int, int], width: int, dropout: float
    ) -> None:
        super().__init__()
        inside = (1, *planes[:3])
        self.planes = nn.ModuleList(
            _Plane(a, b, stride) for a, b, stride in zip(inside, planes, (2, 2, 1, 1), strict=True)
        )
        self.tones = _Tones(width // 4)
        self.squeeze = nn.Sequential(
            nn.Conv1d(planes[3] * N_MELS // 16 + width // 4, width, 1, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
        )
        self.lines = nn.ModuleList(_Line(width, dilation) for dilation in (1, 2))
        self.pool = AttentiveStatistics(width)
        self.out = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, classes),
        )

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """[B, T, F] and mask [B, T] -> logits [B, C]."""
        tones = self.tones(features[:, :, N_MELS:].transpose(1, 2), mask)
        x = (features[:, :, :N_MELS] * mask[:, :, None]).unsqueeze(1)
        for plane in self.planes:
            x, mask = plane(x, mask)
        x = torch.cat([x.transpose(2, 3).flatten(1, 2), tones], dim=1)  # [B, ..., T / 4]
        x = self.squeeze(x) * mask[:, None, :]
        for line in self.lines:
            x = line(x, mask)
        logits: Tensor = self.out(self.pool(x.transpose(1, 2), mask))
        return logits


class MannerTower(nn.Module):
    """How an utterance is spoken (`models/compact/manner.py`) -> logits: two hidden layers."""

    columns: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        centre: FloatArray,
        spread: FloatArray,
        columns: Sequence[int],
        classes: int,
        hidden: int,
        dropout: float,
    ) -> None:
        """Look at `columns` [I] of a manner; `centre` and `spread` [I] over the training clips."""
        super().__init__()
        self.register_buffer("columns", torch.tensor(list(columns)))
        self.register_buffer("centre", torch.from_numpy(centre))
        self.register_buffer("spread", torch.from_numpy(spread).clamp_min(1e-2))
        self.layers = nn.Sequential(
            nn.Dropout(0.4 * dropout),
            nn.Linear(len(centre), hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )

    def forward(self, manner: Tensor) -> Tensor:
        """[B, Q] -> logits [B, C]."""
        seen = (manner[:, self.columns] - self.centre) / self.spread
        logits: Tensor = self.layers(seen.clamp(-4.0, 4.0))
        return logits


class Mean(nn.Module):
    """Towers that see the same, their logits averaged."""

    def __init__(self, towers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.towers = nn.ModuleList(towers)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Take what each tower takes: -> logits [B, C]."""
        return torch.stack([tower(*inputs) for tower in self.towers]).mean(dim=0)


class SpeechTowers(nn.Module):
    """The towers of a speech voter, their logits divided by a temperature each and averaged.

    What an utterance differs from the voice's habits in counts as far as these are known: nothing
    in the first utterance of a stream, and its whole share after many.
    """

    def __init__(
        self,
        sound: nn.Module,
        manner: nn.Module,
        habits: nn.Module,
        temperatures: Sequence[float],
        shares: Sequence[float],
    ) -> None:
        """`shares` is what each counts; a sound of 0 is left out, and what it would have taken."""
        super().__init__()
        self.sound = sound if shares[0] > 0.0 else None
        self.manner = manner
        self.habits = habits
        self.temperatures = tuple(temperatures)
        self.shares = tuple(shares)

    def forward(self, features: Tensor, mask: Tensor, manner: Tensor) -> Tensor:
        """[B, T, F], mask [B, T] and manner [B, Q] -> logits [B, C]."""
        sound, own, habits = (s / t for s, t in zip(self.shares, self.temperatures, strict=True))
        trust = trust_in_habits(manner)
        logits: Tensor = own * self.manner(manner) + habits * trust * self.habits(manner)
        if self.sound is not None:
            logits = logits + sound * self.sound(features, mask)
        return logits / (self.shares[0] + self.shares[1] + self.shares[2] * trust)


def trust_in_habits(manner: Tensor) -> Tensor:
    """How far the habits behind manners [B, Q] are known: [B, 1], 0 to 1."""
    count = manner[:, COUNT:].exp() - 1.0
    return count / (count + TRUSTED_FROM)


class Silent(nn.Module):
    """In the place of a sound tower that was not trained: scores of 0."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Take what a sound tower takes: -> zeros [B, C]."""
        return torch.zeros(len(features), self.classes)


class Grouped(nn.Module):
    """A tower over fine classes, its logits brought together into those of coarser ones."""

    def __init__(self, tower: nn.Module, groups: Sequence[Sequence[int]]) -> None:
        """Take for each coarse class the columns of its fine ones: `groups`."""
        super().__init__()
        self.tower = tower
        self.groups = tuple(tuple(of) for of in groups)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Take what the tower takes: -> logits [B, C]."""
        return grouped(self.tower(*inputs), self.groups)


def grouped(logits: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """Logits [B, F] of fine classes -> log of the summed powers [B, C] of each group."""
    return torch.stack([logits[:, list(of)].logsumexp(dim=1) for of in groups], dim=1)


class FirstColumns(nn.Module):
    """A tower without its last scores: those that only training needed."""

    def __init__(self, tower: nn.Module, count: int) -> None:
        super().__init__()
        self.tower = tower
        self.count = count

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Take what the tower takes: -> its first `count` logits."""
        logits: Tensor = self.tower(inputs, mask)
        return logits[:, : self.count]
