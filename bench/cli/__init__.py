"""The command line: `options` reads it, `main` carries the commands out and alone prints and exits.

`terminal` shows the progress of a run, `doctor` says what this machine can run.
"""
