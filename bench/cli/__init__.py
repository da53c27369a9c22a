"""The command line: `options` reads it, `main` calls the module of the command, and turns errors into
one line and an exit code.

`commands` holds a module for each. `terminal` shows the progress of a run, `exit_codes` says what each means,
`internal_error` writes the traceback of an error of ours. `stability`: how steady the machine is, of ``bench doctor``.
"""

from bench.imports import leave_current_folder

leave_current_folder()  # before the modules of the commands import anything
