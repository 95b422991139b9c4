"""A demo recording and the script that made it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

CALL: Final = Path(__file__).with_name("call.opus")
"""A call of 76 s, agent on the left and customer on the right, by two synthetic voices."""
