"""Project: one use case, one model, in a folder with a passerelle.toml."""
