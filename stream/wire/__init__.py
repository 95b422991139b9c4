"""What crosses a process boundary: messages, codec, sockets, and the life of a child."""
