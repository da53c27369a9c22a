"""Own commands: what a user runs to predict cases, as variants of a run.

`command` reads them as the user writes them, `runner` calls them in a worker of their own, `class_file` reads the
classes that they write.
"""
