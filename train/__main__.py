"""`accelerate launch -m abhinaya.train`: the command for several processes."""

import sys

from abhinaya.train.cli import main

sys.exit(main(sys.argv[1:]))
