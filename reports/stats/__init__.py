"""Statistics: pure functions of arrays, seeded, so that a run's files always give the same answer.

`scores` of cases, their bounds by `bootstrap`, in which `launches` of the processes vary too, the error rates of
several claims (`multiplicity`), `power`: what so many cases could have shown, and `sample_size`: how many a claim
needs. At last `change_points` of a series of runs.
"""
