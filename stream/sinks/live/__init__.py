"""The live view: what goes on in every stream, on a terminal.

`board` knows (event in, state changed; times are passed in), `timeline`, `block` and `picture` draw
a board as lines of rich Text, and `view` is the sink, which hands them to rich's Live.
"""
