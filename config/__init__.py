"""Settings: one model, read from a TOML file and ``WATCHKEEPER_*`` variables, for every process."""
