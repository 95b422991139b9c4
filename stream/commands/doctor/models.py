"""Looks for the models of a profile: each is loaded as its node would, in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec

from abhinaya.stream.commands.doctor.child import last_line, run_module
from abhinaya.stream.commands.doctor.finding import Finding, of_error
from abhinaya.stream.commands.doctor.load import Answer
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.settings.config import Config, WorkerConfig


def services(config: Config) -> Iterator[tuple[str, WorkerConfig]]:
    """Yield the services of a profile and who gives them."""
    if config.asr is not None:
        yield "asr", config.asr
    yield from config.voters.items()
    if config.refiner is not None:
        yield "refiner", config.refiner


def model(config: Config, service: str, timeout_s: float, download: bool) -> Iterator[Finding]:
    """Load the model of one service; unless `download`, only what is on this machine is used."""
    subject, begun = f"model {service}", time.monotonic()
    done = run_module(
        "abhinaya.stream.commands.doctor.load",
        [service],
        configuration.encode(config),
        timeout_s,
        download,
    )
    if done.code is None:
        remedy = "give it more time (--timeout), or choose a smaller model"
        yield Finding(subject, "fault", f"was not loaded within {timeout_s:g} s", remedy)
        return
    try:
        answer = msgspec.json.decode(done.output, type=Answer)
    except msgspec.DecodeError:
        detail = f"loading it ended with {done.code}: {last_line(done.errors)}"
        yield Finding(subject, "fault", detail, "is there memory enough? please report it")
        return
    if answer.epitaph is not None and not download and _is_elsewhere(answer.epitaph.reason):
        remedy = "the first start downloads them; --download does now; or give a local copy's path"
        name = dict(services(config))[service].model
        yield Finding(subject, "fault", f"{name}: its files are not on this machine", remedy)
        return
    if answer.epitaph is not None:
        yield of_error(subject, answer.epitaph.error())
        return
    found = answer.service
    assert found is not None
    limit = ", no commercial use" if found.noncommercial else ""
    took_s = time.monotonic() - begun
    yield Finding(
        subject,
        "ok",
        f"{found.model} {found.version} ({found.licence}{limit}), loaded in {took_s:.1f} s",
    )


def _is_elsewhere(reason: str) -> bool:
    """Whether a model is only missing because the check forbade the download."""
    return "HF_HUB_OFFLINE" in reason
