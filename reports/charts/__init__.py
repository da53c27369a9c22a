"""A summary as charts, each in SVG with its content in words.

`figure` is the frame of all, `marks` holds the shapes of states, and `forest` draws estimates with their bounds. Then a
chart a file: the `ranking` of the variants, time against accuracy (`trade_off`), the `stages` of a case, each case's
pair of times (`case_times`), what the scores differ by (`accuracy`), the `stability` of the ranking, and the `course`
of the run. Each gives None where it has nothing to draw. Of several runs: `regression` against a reference, `history`
of a variant. Of a search: `tuning`.
"""
