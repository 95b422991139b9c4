"""Write the picture of the README: the demo call in the console. `make screenshot` runs this."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
import chromium  # noqa: E402

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, chromium.serve(Path(folder), "--demo") as place:
        print(chromium.play("screenshot", *place, str(Path(sys.argv[1]).absolute())))
