"""Messages between processes, their codec and sockets, and the start and end of a child process."""
