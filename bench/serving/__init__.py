"""A package behind a model server of others, and a client that needs no PyTorch.

`served_model` predicts cases in the server's process, whatever server that is: `received` takes apart what comes over
the network, `triton_model` is called by NVIDIA Triton's Python backend and `mlserver_model` by MLServer. `server` is
what a client sees of either, `remote` has it run many cases, and `predictions` is all of `bench predict --url`.
"""
