"""A module for each command, whose `execute` takes the options and returns the exit code.

To measure: `run` (and `bench plan`), `scenario`, `doctor`, `stability` (`bench doctor --stability`), `inspection`
(`bench inspect`). To judge: `report`, `check`, `compare`. To use what won: `export`, `verify`.
"""
