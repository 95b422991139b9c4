"""The live view: the current state of all streams on a terminal.

`board` keeps the state; `timeline`, `block` and `picture` draw it as lines of rich Text; `view` is
the sink that displays these lines with rich's Live.
"""
