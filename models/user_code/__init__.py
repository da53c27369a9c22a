"""The user's own network, named with ``--arch``: `factory` makes it, `isolation` keeps their modules and ours apart,
and `packages` says which installed packages have a part in it."""
