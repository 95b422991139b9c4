"""Loads the model of one service, as its node would, and tells what it is; see models.py."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

import msgspec

from abhinaya.stream.errors import AbhinayaError
from abhinaya.stream.node.worker import load_model
from abhinaya.stream.settings import config as configuration
from abhinaya.stream.wire.child import Epitaph
from abhinaya.stream.wire.messages import Service


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of loading: one of the two."""

    service: Service | None = None
    epitaph: Epitaph | None = None


def main(argv: Sequence[str]) -> int:
    """Load the service named first, of the config on standard input."""
    config = configuration.decode(sys.stdin.buffer.read())
    (service,) = argv
    own = {"asr": config.asr, "refiner": config.refiner}
    worker = own.get(service) or config.voters[service]
    assert worker is not None
    # models print as they like: the answer goes where standard output was
    with os.fdopen(os.dup(1), "wb") as answers, contextlib.redirect_stdout(sys.stderr):
        os.dup2(2, 1)
        try:
            answer = Answer(service=load_model(service, worker).service)
        except AbhinayaError as error:
            answer = Answer(
                epitaph=Epitaph(
                    exit_code=error.exit_code,
                    subject=error.subject,
                    reason=error.reason,
                    remedy=error.remedy,
                )
            )
        answers.write(msgspec.json.encode(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
