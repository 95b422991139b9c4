"""`python -m abhinaya.stream` is `abhinaya-stream`."""

import sys

from abhinaya.stream.commands.stream import main

sys.exit(main())
