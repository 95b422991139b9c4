"""The plan: by hand on round figures, its laws on the package's own, and wrong input."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from abhinaya.bench.capacity import figures as reading
from abhinaya.bench.capacity.command import main
from abhinaya.bench.capacity.demand import groups_of, partials_of
from abhinaya.bench.capacity.figures import Cost, Speech
from abhinaya.bench.capacity.plan import Ask, make
from abhinaya.stream.settings import profile as profile_files
from abhinaya.stream.settings.config import Config, VadConfig, WorkerConfig

FIGURES = reading.load()


def test_a_plan_by_hand() -> None:
    """100 streams, each with a segment of 4 s every 10 s, and a model of 0.1 s: 1 core of work."""
    speech = Speech("made", (4.0, 4.0), (6.0, 6.0), 2)
    models = {"wavlm": Cost("made", cpu_s=0.1, mib=100)}
    figures = dataclasses.replace(FIGURES, speech=speech, models=models)
    config = Config(profile="made", voters={"S1": WorkerConfig(model="wavlm")})
    plan = make(Ask(100, cells=1), config, figures)
    (nodes,) = plan.nodes
    assert (plan.load.per_s, nodes.per_s, nodes.total) == (10.0, 10.0, 2)
    assert nodes.use == pytest.approx(0.5)
    assert plan.load.copies == 1
    assert plan.gpus == 0
    ten = make(Ask(1000, cells=1), config, figures)
    assert ten.nodes[0].total == 15  # 10 cores of work at 70 %
    files = make(Ask(1000, live_share=0.0, cells=1), config, figures)
    assert files.nodes[0].total == 11  # at 95 %
    assert files.load.partials_per_s == 0
    assert ten.limits[0].holds == min(limit.holds for limit in ten.limits)


def test_a_batch_takes_its_flops_and_one_look_at_the_weights() -> None:
    config = profile_files.load("paper")
    s2 = next(g for g in groups_of(config, FIGURES, "H100") if g.services == ("S2",))
    compute_s = 8 * 5.7 / (989 * 0.4)
    assert s2.batch_s == pytest.approx(compute_s + 27.4 / (3350 * 0.6))
    small = next(g for g in groups_of(config, FIGURES, "L4") if g.services == ("S2",))
    assert (s2.gpus, small.gpus) == (1, 2)  # 27.4 GB do not fit into 24


@pytest.mark.parametrize("profile", profile_files.profiles())
def test_more_streams_need_no_less_and_a_limit_holds_what_is_planned(profile: str) -> None:
    config = profile_files.load(profile)
    before = make(Ask(1), config, FIGURES)
    for streams in (10, 1000, 10_000, 100_000):
        plan = make(Ask(streams), config, FIGURES)
        assert all(limit.use <= 1 and limit.holds >= streams for limit in plan.limits)
        assert plan.gpus >= before.gpus
        assert plan.cells >= before.cells
        assert plan.load.in_bytes > before.load.in_bytes
        before = plan


def test_a_cascade_needs_its_share_of_the_servers() -> None:
    whole, some = (
        make(Ask(10_000, cells=10), profile_files.load("paper", {"vote.cascade": names}), FIGURES)
        for names in ([], ["T1"])
    )
    before, after = (
        plan.nodes[[n.services for n in plan.nodes].index(("server of T1",))]
        for plan in (whole, some)
    )
    assert after.total == math.ceil(before.use * before.total * FIGURES.cascade.asked / 0.7)
    assert after.total < before.total / 2
    assert some.load.in_bytes <= whole.load.in_bytes


def test_partials_follow_the_settings_of_the_profile() -> None:
    vad = VadConfig()
    # after 0.7, 1.4, 2.1 and 2.8 of the 3.2 s of speech, and once in the pause
    assert partials_of(vad, (3.5, 3.5)) == (5.0, pytest.approx((0.7 + 1.4 + 2.1 + 2.8 + 3.5) / 5))
    assert partials_of(dataclasses.replace(vad, provisional_every_s=0), (3.5, 3.5)) == (0, 0)


def test_the_command_prints_the_plan_and_what_it_rests_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "plan.json"
    assert main(["--streams", "1000", "--profile", "paper", "--json", str(written)]) == 0
    out = capsys.readouterr().out
    assert "What breaks first" in out
    assert "assumption:" in out
    assert b'"limits"' in written.read_bytes()


WRONG = (
    (["--streams", "0"], "--streams 0"),
    (["--streams", "10", "--profile", "papr"], "papr"),
    (["--streams", "10", "--live-share", "1.5"], "--live-share 1.5"),
    (["--streams", "10", "--profile", "paper", "--gpu", "H10"], "H10"),
    (["--streams", "10", "--figures", "absent.toml"], "absent.toml"),
    ([], "number of streams"),
)


@pytest.mark.parametrize(("flags", "named"), WRONG)
def test_wrong_input_is_named(
    flags: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags) != 0
    error = capsys.readouterr().err
    assert named in error
    assert "Traceback" not in error


def test_wrong_figures_are_named_all_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = reading.packaged()
    text = text.replace("compute = 0.4", "compute = 4").replace("tflop = 5.7\n", "")
    text = text.replace("\nsegment_s =", "\nsegments_s =")
    path = tmp_path / "figures.toml"
    path.write_text(text)
    assert main(["--streams", "10", "--figures", str(path)]) == 2
    error = capsys.readouterr().err
    assert all(named in error for named in ("efficiency.compute", "hub.segments_s", str(path)))
