"""`python -m bench` is `bench`."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the current folder, where the next import could find a module of its project
    from bench.cli.main import entry

    entry()
