"""Entry point of `accelerate launch -m abhinaya.train`, for training in several processes."""

import sys

from abhinaya.train.cli import main

sys.exit(main(sys.argv[1:]))
