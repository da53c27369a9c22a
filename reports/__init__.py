"""Records of a run, what follows from them, and the documents people read.

`records` holds raw values and their files; `stats`, `decision` and `analysis` derive what they say, `summary` brings it
into rows once, `charts` draws them, and `render` turns them into one format each. Each may import only what is named
before it. `formatting` words figures for all of them.
"""
