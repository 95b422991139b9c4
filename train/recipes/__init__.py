"""The recipes of the package, as TOML; `docs/training.md` explains every setting."""
