"""What is read of the machine: `clock` (the one of all variants), `usage` of a worker, `system_load` and `gpu` around a
sample, `process_tree` of what a worker has started, `host` (what the run ran on, and how much of it the process may
use, by `cgroup`), `peak` of the device, `device_lock` for a GPU that one worker at a time has to itself, and
`fixed_work`, whose times show how steady the machine is."""
