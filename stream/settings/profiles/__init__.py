"""The line-ups that come with the package, one TOML file each."""
