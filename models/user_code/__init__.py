"""The user's own network, named with ``--arch``: `factory` makes it, `isolation` keeps their modules and ours apart,
`structure` says what makes its function beside their Python files, and `packages` which installed packages have a part
in it."""
