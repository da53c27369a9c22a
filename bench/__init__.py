"""The harness: measures every variant beside the baseline, checks its accuracy, and states whether the speedup is real.

`run` is the main job and reads as the architecture; `declare` writes down beforehand what it will do; `scenarios` times
one variant as MLPerf does, `accuracy` scores masks on disk, `choices` are the values that options may take, `progress`
and `errors` are what a person sees, `shard` is a part of the cases.

`imports` keeps the current folder's modules out. `cli`: the command line. `plan`: what a run will do. `schedule`: in
what order, and where it is stored. `tune`: a search for the fastest recipe. `images`: of cases, as a page shows them.
`package`: a winner to take elsewhere. `predict`: what was verified, over any number of cases. `merge`: the folders of
shards, joined. `serving`: the same behind a model server. `cluster`: work on the nodes of a Ray cluster. `worker`: a
variant in a process of its own. `machine`: what is read of the machine. `data`: files to arrays and back. `pipeline`: a
case's way. `peers`: reference pipelines, which users run today. `commands`: what users run of their own. `trackers`: a
run in the stores of experiment trackers. `demo`: made-up data.
"""

from bench.imports import find_ours_first

__version__ = "0.1.0"

find_ours_first()
