"""The documents of a run: `record` holds raw values with units, `store` their files."""
