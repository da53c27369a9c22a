"""What a run will do, known before anything is measured.

`request` is what the user asked for, `settings` completes it by what the network says; `plan` checks everything and
prepares the run, and `resumption` does so for one that was begun earlier. `networks` reads what it is of; `variants`
say what is timed, `workers` what their workers are asked to open, `controlled_settings` what is held equal,
`accuracy_claim` what the accuracy is shown by; `calibration` cuts the tiles that INT8 is calibrated on, `cache` keeps
what can be used again. `declaration` is the plan as a file with a hash of its own, which a run can be held to;
`no_network` stands for the network where own commands run alone. `opening` is one way of inference, a run's or a
checkpoint's, made ready for cases of which no run knows.
"""
