"""`abhinaya-stream` with nodes that answer without models: `python null_program.py BUSY_S ...`.

With `serve` as the first argument it is `abhinaya serve`.

Everything else is the real program: signals, supervisor, hub, fronts and outputs.
"""

from __future__ import annotations

import sys
from typing import Any


def config() -> Any:
    """Return a line-up of null nodes with short time limits."""
    import dataclasses

    from abhinaya.bench.null_nodes import null_config
    from abhinaya.stream.settings.config import FlowConfig, SuperviseConfig

    return dataclasses.replace(
        null_config(),
        flow=FlowConfig(file_window=4),
        supervise=SuperviseConfig(silent_s=1.5, beat_s=0.2, backoff_s=0.1, take_over_s=2.0),
    )


def prepare() -> None:
    """Put the line-up of null nodes in place of the profile; its compliance mode stays."""
    import dataclasses

    from abhinaya.stream.commands import serve, stream
    from abhinaya.stream.settings.environment import load_line_up

    def line_up(args: Any) -> Any:
        return dataclasses.replace(config(), compliance=load_line_up(args).compliance)

    for program in (serve, stream):
        program.load_line_up = line_up
    stream.faults_of_models = lambda config, accept: iter(())
    stream.unpinned_models = lambda config: iter(())


if __name__ == "__main__":
    from abhinaya.models.interrupts import leave_at_once

    leave_at_once("abhinaya-stream")  # as the real program does before it imports the rest
    prepare()
    from abhinaya.bench.null_nodes import null_nodes
    from abhinaya.stream.__main__ import commands, stream

    with null_nodes(float(sys.argv.pop(1))):
        commands() if sys.argv[1:2] == ["serve"] else stream()
