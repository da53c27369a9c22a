"""`bench merge`: the folders of shards, joined into what one call over all cases would have left.

`merging` is the whole of it. `shards` refuses what is no whole set of shards of one list of cases; `predictions` joins
those of ``bench predict``, `runs` those of ``bench run``, of which `unlike` says what may not differ. `on_nodes` has
each node of a cluster run one, where a `shard_runner` does it.
"""
