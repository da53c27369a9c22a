"""What really ran.

`mac_counter` counts multiply-accumulates by precision, `program_layers` finds the layers of networks without PyTorch
code, `dataflow` leaves out what no output needs, `onednn` reads oneDNN's own account.
"""
