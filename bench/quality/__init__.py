"""How well the monitor hears: words, voters and vote on speech whose truth is known.

material    which sessions there are: sequences of segments with what is true of them
ears        sessions -> answers, by a profile's own models, rule and segmenter
measures    pure functions of answers
rows        which measure of which material stands in which row of the table
"""

from abhinaya.bench.quality.command import main

__all__ = ["main"]
