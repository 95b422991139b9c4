"""Quality of words, voters and vote on labelled speech.

material    the materials: lists of sessions, which are sequences of labelled segments
offline     sessions -> answers, by a profile's models, rule and segmenter
measures    pure functions of answers
rows        the rows of the table: a measure of a material
"""

from abhinaya.bench.quality.command import main

__all__ = ["main"]
