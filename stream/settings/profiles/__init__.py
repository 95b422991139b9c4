"""The profiles of the package, one TOML file each."""
