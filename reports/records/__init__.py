"""The documents of a run: `record` holds raw values with units, `package` those of what was exported, `store` files.

`run_folders`: where the runs of a project lie.
"""
