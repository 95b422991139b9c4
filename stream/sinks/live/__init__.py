"""The live view: what goes on in every stream, on a terminal.

`board` decides what there is to know (event in, state changed; times are passed in), `picture` and
the files it stands on draw a board as rows of an exact width, and `view` is the sink: it owns the
part of the terminal that changes, and draws at a bounded rate.
"""
