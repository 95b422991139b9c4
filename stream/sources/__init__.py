"""Where audio comes from: files, standard input, the microphone."""
