"""Where verdicts go: the terminal and files."""

from abhinaya.stream.sinks.base import Sink
from abhinaya.stream.sinks.open import Sinks, open_sinks

__all__ = ["Sink", "Sinks", "open_sinks"]
