"""A winner to take elsewhere: everything that a prediction needs, what was proved of it, and no code.

`document`: what a package says of itself, and its files. To make one: `proof`, what a run has shown; `networks`, their
files; `golden`, made-up cases; `export`, all of it. To use one: `opening`, for a worker; `verify`, whether it does here
what it did there; `measure`, how fast. `trial` is a worker that tries it in both. For other tools: `conversion`, to one
of the `formats`.
"""
