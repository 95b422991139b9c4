"""Label many recordings and write one table: file, start, end, label, confidence, words.

python examples/folder_to_csv.py labels.csv recordings/*.wav
"""

import csv
import sys

from abhinaya.stream import Monitor

table, *recordings = sys.argv[1:]
with Monitor() as monitor, open(table, "w", newline="", encoding="utf-8") as file:
    rows = csv.writer(file)
    rows.writerow(["file", "start_s", "end_s", "label", "confidence", "text"])
    for verdict in monitor.label_files(recordings):
        rows.writerow(
            [
                verdict.stream,
                round(verdict.start_s, 3),
                round(verdict.end_s, 3),
                verdict.label,
                round(verdict.confidence or 0.0, 3),
                verdict.text,
            ]
        )
