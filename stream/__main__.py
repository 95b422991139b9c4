"""`python -m abhinaya.stream` is `abhinaya-stream`."""

import sys

from abhinaya.stream.cli import main

sys.exit(main())
