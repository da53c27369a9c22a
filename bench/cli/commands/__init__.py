"""A module for each command, of which the function "execute" takes the options and returns the exit code.

To measure: `run` (and ``bench plan``), `tune`, `scenario`, `doctor`, `inspection` (``bench inspect``). To judge:
`report`, `log`, `check`, and `several` runs (``bench compare``, ``bench history``). To use what won: `export`,
`verify`, `predict`. Of shards: `merge`.
"""
