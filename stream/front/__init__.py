"""From a source to numbered segments of speech."""
