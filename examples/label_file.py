"""Print a label for each stretch of speech in a recording.

python examples/label_file.py call.wav
"""

import sys

from abhinaya.stream import Monitor

with Monitor() as monitor:
    for verdict in monitor.label(sys.argv[1]):
        print(f"{verdict.start_s:7.2f} {verdict.end_s:7.2f}  {verdict.label:9} {verdict.text}")
