"""What a stream or a call comes to over time: accumulators of bounded memory, without I/O.

Each takes rows of one stream in the order of their start, in their last revision, and times in
seconds.
"""
