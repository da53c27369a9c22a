"""The documents of a run: `record` holds raw values with units, `package` those of an exported one, `store` their files."""
