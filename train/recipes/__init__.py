"""The recipes of the package, as TOML; `docs/training.md` tells what each setting means."""
