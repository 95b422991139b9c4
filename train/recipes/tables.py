"""The tables of a recipe: what can be set, with default, range and meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from abhinaya.models.fields import setting
from abhinaya.models.labels import LABELS
from abhinaya.models.published.specs import HEADS
from abhinaya.train.data.clips import LONGEST_S
from abhinaya.train.recipes.learner_options import OPTIONS

LOSSES: Final[Mapping[str, tuple[str, ...]]] = {
    "ce": ("primary", "secondary", "gender"),
    "kld": ("primary", "secondary", "gender"),
    "focal": ("primary",),
    "vs": ("primary",),
    "soft_f1": ("primary",),
    "margin": ("neutral",),
    "rank": ("neutral",),
    "ccc": ("attributes",),
    "mse": ("attributes",),
    "gauss_mse": ("attributes",),
    "l2": (),
}
"""Kind of loss -> the heads that it may act on; the first is the default."""


@dataclass(frozen=True, slots=True)
class ModelRecipe:
    """The table [model]: which model is trained."""

    learner: str = setting(doc="kind of model", choices=tuple(OPTIONS))
    start: str = setting("", doc="checkpoint to start from: best/ of an earlier run")
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataRecipe:
    """The table [data]: the clips of training and validation, and how each is cut."""

    train_split: str = setting("train", doc="split of the manifest to train on")
    validation_split: str = setting("dev", doc="split to choose the best checkpoint by")
    balanced: int = setting(
        0, doc="validation clips of each class, drawn at random; 0: all (the paper: 326)", least=0
    )
    validation_list: str = setting("", doc="file that names the validation clips")
    classes: tuple[str, ...] = setting(LABELS, doc="labels of the model, in order; also: other")
    secondary: tuple[str, ...] = setting((), doc="secondary labels; none: the 17 most frequent")
    kinds: tuple[str, ...] = setting(("speech",), doc="kinds of clips to use")
    max_s: float = setting(LONGEST_S, doc="seconds; longer clips are cut", least=0.5)
    crop: str = setting(
        "random",
        doc="part of a long clip to train on: once is at random, and in all epochs the same",
        choices=("random", "once", "first"),
    )
    max_words: int = setting(0, doc="leave out clips with more words; 0: no limit", least=0)
    max_missing: float = setting(
        0.0, doc="share of clips that may be missing or corrupt", least=0, most=1
    )
    shared_speakers: bool = setting(
        False, doc="allow speakers in both splits; figures then do not hold for new speakers"
    )


@dataclass(frozen=True, slots=True)
class AugmentRecipe:
    """The table [augment]: how often each augmentation is applied to training clips."""

    channel: float = setting(0.0, doc="share with a random recording channel", least=0, most=1)
    pair: float = setting(
        0.0, doc="share joined with another clip, all classes equally likely", least=0, most=1
    )
    pair_s: float = setting(2.0, doc="longest gap or overlap of the two, in seconds", least=0)
    surroundings: str = setting("", doc="folder with rir/*.flac and noise/*.opus for channels")


@dataclass(frozen=True, slots=True)
class TargetRecipe:
    """The table [train.target]: how the votes of a clip become its target."""

    kind: str = setting(
        "plurality",
        doc="only the consensus, or the distribution of the votes",
        choices=("plurality", "distribution"),
    )
    drop_votes: float = setting(
        0.0, doc="chance to drop a vote for the leading label", least=0, most=0.95
    )
    reweight: bool = setting(
        False, doc="divide by how often each class is voted for, then scale to sum 1"
    )


@dataclass(frozen=True, slots=True)
class LossTerm:
    """One entry of `losses`: a term of the loss. Formulas: `train/loop/losses.py`."""

    kind: str = setting(doc="which loss", choices=tuple(LOSSES))
    head: str = setting("", doc="outputs it acts on; none: the kind's own", choices=("", *HEADS))
    weight: float = setting(1.0, doc="weight of this term in the sum", least=0)
    gamma: float | None = setting(
        None, doc="exponent of focal or vs; the paper's if it is missing: 2 and 0.3", least=0
    )
    tau: float = setting(1.0, doc="scale of the bias of vs", least=0)
    sigma: float = setting(1.0, doc="width of gauss_mse around 4, on the scale 1 to 7", least=0.1)
    part: str = setting("", doc="for l2: beginning of the names of the weights it acts on")
    reduction: str = setting(
        "paper",
        doc="how class weights act on the mean; broadcast: as the published code",
        choices=("paper", "weighted_mean", "broadcast"),
    )
    class_weights: str = setting(
        "training",
        doc="from the training clips, none, or those of the published code for MSP-Podcast",
        choices=("training", "none", "published"),
    )
    power: float = setting(1.0, doc="exponent of the class weights from training", least=0)

    @property
    def on(self) -> str | None:
        """The head that it acts on; None for l2."""
        return self.head or next(iter(LOSSES[self.kind]), None)


@dataclass(frozen=True, slots=True)
class TrainRecipe:
    """The table [train], or one stage with its overrides."""

    epochs: int = setting(20, doc="passes over the training clips", least=1)
    rate: float = setting(1e-5, doc="highest learning rate", least=0)
    batch: int = setting(8, doc="clips in a batch", least=1)
    accumulate: int = setting(4, doc="batches in a step, over all processes", least=1)
    schedule: str = setting(
        "constant", doc="learning rate after warm-up", choices=("constant", "linear", "cosine")
    )
    warmup: float = setting(0.0, doc="share of the steps that are warm-up", least=0, most=1)
    weight_decay: float = setting(0.01, doc="weight decay of AdamW", least=0)
    beta1: float = setting(0.9, doc="of AdamW", least=0, most=1)
    beta2: float = setting(0.999, doc="of AdamW", least=0, most=1)
    eps: float = setting(1e-8, doc="of AdamW", least=0)
    clip_norm: float = setting(1.0, doc="largest norm of the gradient; 0: no limit", least=0)
    patience: int = setting(
        0, doc="stop after this many validations without a better one; 0: never", least=0
    )
    rates: Mapping[str, float] = field(
        default_factory=dict,
        metadata={"doc": "rate of the weights whose names begin so, such as {heads = 1e-3}"},
    )
    sampler: str = setting(
        "shuffle",
        doc="clips of an epoch: all; at most `cap` of a class; drawn with equal class probability; "
        "drawn, half of them neutral",
        choices=("shuffle", "undersample", "balanced", "half_neutral"),
    )
    cap: int = setting(0, doc="for undersample: most clips of a class; 0: of the rarest", least=0)
    others: float = setting(
        0.0,
        doc="for other samplers than shuffle: clips without a consensus on a class that join them, "
        "as a share of the clips with one",
        least=0,
    )
    mixup: float = setting(
        0.0, doc="share of batches whose fused vectors are mixed (encoder, fusion)", least=0, most=1
    )
    mixup_beta: float = setting(0.2, doc="both parameters of mixup's beta distribution", least=0.01)
    target: TargetRecipe = field(default_factory=TargetRecipe)
    losses: tuple[LossTerm, ...] = setting((), doc="terms of the loss")


@dataclass(frozen=True, slots=True)
class RunRecipe:
    """The table [run]: settings that do not change the trained model."""

    save_every: int = setting(200, doc="steps between saved states; 0: only each epoch", least=0)
    workers: int = setting(2, doc="processes that read audio; 0: the trainer reads", least=0)
    deterministic: bool = setting(False, doc="stop at a kernel that is not deterministic")
    cache: str = setting("", doc="folder for features of frozen encoders; makes data.crop once")
    cache_gb: float = setting(100.0, doc="most GB in that folder", least=0.001)
