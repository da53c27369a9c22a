"""What is read of the machine: `clock` (those of all variants), `usage` of a worker, `system_load` and `gpu` around a
sample, `process_tree` of what a worker has started, `host` (what the run ran on, and how much of it the process may
use, by `cgroup`), `peak` of the device, `device_lock` for a GPU that one worker at a time has to itself,
`side_stream` for work on a GPU beside the network's, `threads` of PyTorch's beside an engine's, and `fixed_work`,
whose times show how steady the machine is."""
