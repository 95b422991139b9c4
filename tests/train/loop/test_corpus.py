from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from trainer_fakes import tones

from abhinaya.models.labels import LABELS
from abhinaya.train.data.audio import read_clip
from abhinaya.train.data.clips import Clip
from abhinaya.train.data.manifest import Manifest, read_manifest
from abhinaya.train.errors import DataError
from abhinaya.train.learners.base import Outputs
from abhinaya.train.loop.corpus import WRONG, choose, without_short
from abhinaya.train.loop.examples import Examples, Teaching
from abhinaya.train.loop.objective import Objective, judge
from abhinaya.train.recipes.recipe import load_recipe
from abhinaya.train.recipes.tables import TargetRecipe

AUDIO, TEXT = frozenset({"audio"}), frozenset({"transcript"})
RECIPE = load_recipe("s1", ["data.balanced=0"])


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(tones(tmp_path_factory.mktemp("tones")))


def with_clip(manifest: Manifest, i: int, **changes: object) -> Manifest:
    clips = list(manifest.clips)
    clips[i] = replace(clips[i], **changes)  # type: ignore[arg-type]
    return replace(manifest, clips=tuple(clips))


def test_missing_and_corrupt_files_are_named_and_counted(
    manifest: Manifest, tmp_path: Path
) -> None:
    gone = with_clip(manifest, 0, path="nowhere.wav")
    (manifest.root / "broken.wav").write_bytes(b"no audio at all" * 40)
    gone = with_clip(gone, 1, path="broken.wav")
    with pytest.raises(DataError, match=r"2 of 48 audio files.*0\.0% allowed.*nowhere\.wav.*brok"):
        choose(gone, RECIPE, AUDIO)
    some = load_recipe("s1", ["data.balanced=0", "data.max_missing=0.05"])
    corpus = choose(gone, some, AUDIO)
    assert corpus.left_out == {"missing or corrupt": 2}
    assert len(corpus.train) == 30


def test_a_speaker_in_both_splits_stops_the_run(manifest: Manifest) -> None:
    torn = with_clip(manifest, len(manifest.clips) - 1, speaker="a")
    with pytest.raises(DataError, match=r"1 speakers are in both splits.*a: train \(16\), valid"):
        choose(torn, RECIPE, AUDIO)
    allowed = load_recipe("s1", ["data.balanced=0", "data.shared_speakers=true"])
    assert len(choose(torn, allowed, AUDIO).validation) == 16


def test_clips_that_teach_nothing_are_left_out_by_reason(manifest: Manifest) -> None:
    changed = with_clip(manifest, 0, votes={"angry": 1.0, "sad": 1.0})
    changed = with_clip(changed, 1, kind="vocal_burst")
    assert choose(changed, RECIPE, AUDIO).left_out == {
        "no consensus on a class": 1,
        "kind vocal_burst": 1,
    }
    text = load_recipe("t2", ["data.balanced=0", "data.max_words=4"])
    changed = with_clip(manifest, 0, transcript="")
    changed = with_clip(changed, 1, scripted=True)
    changed = with_clip(changed, 2, transcript="one two three four five")
    assert choose(changed, text, TEXT).left_out == {
        "no transcript": 1,
        "scripted words, the same for every emotion": 1,
        "transcript too long": 1,
    }


def test_an_unusable_split_says_why(manifest: Manifest) -> None:
    silent = replace(manifest, clips=tuple(replace(c, votes={}) for c in manifest.clips))
    with pytest.raises(DataError, match=r"split 'train': no clip can be used: no consensus.*48"):
        choose(silent, RECIPE, AUDIO)
    with pytest.raises(DataError, match="split 'test1': no clip is in it"):
        choose(manifest, load_recipe("s1", ["data.validation_split=test1"]), AUDIO)


def test_validation_is_balanced_by_seed_or_named(manifest: Manifest) -> None:
    one = choose(manifest, load_recipe("s1", ["data.balanced=1"]), AUDIO)
    assert sorted(c.label or "" for c in one.validation) == list(LABELS)
    again = choose(manifest, load_recipe("s1", ["data.balanced=1"]), AUDIO)
    other = choose(manifest, load_recipe("s1", ["data.balanced=1", "seed=3"]), AUDIO)
    assert one.digest == again.digest != other.digest
    named = choose(manifest, RECIPE, AUDIO, listed=["c-sad-0.wav", "c-fear-1"])
    assert [c.id for c in named.validation] == ["c-sad-0", "c-fear-1"]


def test_a_clip_of_the_list_that_cannot_be_used_counts_as_wrong(manifest: Manifest) -> None:
    """All voters have one list: a clip without words stays in it, also for a text model."""
    text = load_recipe("t2", ["data.balanced=2", "data.max_words=2"])
    at = next(i for i, c in enumerate(manifest.clips) if c.split == "dev" and c.label == "fear")
    silent = with_clip(manifest, at, transcript="")
    drawn = choose(silent, load_recipe("s1", ["data.balanced=2"]), AUDIO)
    train = load_recipe("t2", ["data.balanced=2"])
    corpus = choose(silent, train, TEXT)
    assert {c.id for c in drawn.validation} - {c.id for c in corpus.validation} == {
        silent.clips[at].id
    }
    assert corpus.missed == ("fear",)
    assert corpus.left_out[WRONG] == 1
    with pytest.raises(DataError, match=r"no clip can be used: .*too long"):
        choose(silent, text, TEXT)  # the limit of words is for training
    outputs = Outputs({"primary": LABELS})
    objective = Objective(train.train.losses, (1,) * 8, outputs)
    right = torch.eye(8)
    scores = [judge(right, right, objective, "primary", lost).score for lost in ((), ("fear",))]
    assert scores == pytest.approx([1.0, (7 + 2 / 3) / 8])


def test_clips_too_short_for_the_model_are_left_out(manifest: Manifest) -> None:
    corpus = choose(manifest, RECIPE, AUDIO)
    fewer = without_short(corpus, 10_000)
    assert fewer.left_out["too short"] == 48 - len(fewer.train) - len(fewer.validation)
    assert all(corpus.lengths[c.id] >= 0.625 for c in fewer.train)
    with pytest.raises(DataError, match="shorter than"):
        without_short(corpus, 20_000)


def clip(**votes: float) -> Clip:
    return Clip(id="x", corpus="c", votes=votes)


CLASSES = ("angry", "neutral", "sad")


def test_the_consensus_teaches_one_class() -> None:
    teaching = Teaching([clip(sad=3, angry=1), clip(sad=1, angry=1)], CLASSES, 0)
    assert teaching.labels.tolist() == [2, -1]
    assert teaching.shares(0, TargetRecipe(), 0).tolist() == [0, 0, 1]


def test_reweighting_makes_rare_classes_count_more() -> None:
    clips = [clip(neutral=1)] * 8 + [clip(neutral=1, sad=1), clip(sad=1, angry=1)]
    target = TargetRecipe("distribution", reweight=True)
    teaching = Teaching(clips, CLASSES, 0)
    mean = {"neutral": 0.85, "sad": 0.1, "angry": 0.05}
    expected = np.array([0, 1 / mean["neutral"], 1 / mean["sad"]])
    assert teaching.shares(8, target, 0) == pytest.approx(expected / expected.sum(), rel=1e-5)


def test_votes_are_dropped_by_epoch_and_never_all() -> None:
    teaching = Teaching([clip(sad=3, angry=2)], CLASSES, 0)
    target = TargetRecipe("distribution", drop_votes=0.5)
    drawn = [tuple(teaching.shares(0, target, epoch)) for epoch in range(40)]
    assert len(set(drawn)) > 2
    assert all(sum(d) == pytest.approx(1.0) for d in drawn)
    assert drawn == [tuple(teaching.shares(0, target, epoch)) for epoch in range(40)]
    alone = Teaching([clip(other=3, sad=1)], CLASSES, 0)  # what stays may be outside the classes
    assert all(alone.shares(0, target, e).tolist() == [0, 0, 1] for e in range(20))


def test_a_clip_is_cut_at_random_to_learn_and_at_its_beginning_to_judge(manifest: Manifest) -> None:
    recipe = load_recipe("s1", ["data.max_s=0.5"])
    corpus = choose(manifest, load_recipe("s1", ["data.balanced=0", "data.max_s=0.5"]), AUDIO)
    examples = Examples(corpus.root, corpus.train, recipe, AUDIO, Outputs({"primary": LABELS}))
    read = [read_clip(corpus.root, c) for c in corpus.train]
    i = next(k for k, samples in enumerate(read) if len(samples) > 9_000)
    whole = read[i]
    judged = examples.judged(i)
    assert np.array_equal(judged.samples, whole[:8_000])
    assert judged.draw == 0
    learnt = [examples.learnt(i, TargetRecipe(), epoch) for epoch in range(4)]
    assert {len(e.samples) for e in learnt} == {8_000}
    assert len({e.samples.tobytes() for e in learnt}) > 1
    again = examples.learnt(i, TargetRecipe(), 2)
    assert np.array_equal(again.samples, learnt[2].samples)
    assert again.draw == learnt[2].draw


def test_a_pair_teaches_the_mean_of_both(manifest: Manifest) -> None:
    recipe = load_recipe("wavlm-votes", ["augment.pair=1.0", "train.target.drop_votes=0.0"])
    corpus = choose(manifest, recipe, AUDIO)
    examples = Examples(corpus.root, corpus.train, recipe, AUDIO, Outputs({"primary": LABELS}))
    mixed = [examples.learnt(i, TargetRecipe("distribution"), 0) for i in range(8)]
    assert all(e.targets.sum() == pytest.approx(1.0) for e in mixed)
    assert max(np.count_nonzero(e.targets) for e in mixed) > 2  # a clip alone has votes for two
    read = [read_clip(corpus.root, c) for c in corpus.train[:8]]
    assert all(len(e.samples) >= len(r) for e, r in zip(mixed, read, strict=True))
    assert not any(np.array_equal(e.samples, r) for e, r in zip(mixed, read, strict=True))
