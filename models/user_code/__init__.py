"""The user's own network, named with ``--arch``: `factory` makes it, `isolation` keeps their modules and ours apart."""
