"""A backend in a process of its own, seen from both ends.

`process` is the harness's end, `server` what runs inside, `messages` what they exchange, `questions` what it answers
without an open backend; `networks` loads what a backend is built of, `ensemble` makes one session of several; `warmup`
and `allocator` bring the process into the state in which it is timed. `batch` runs many cases of which none ends the
others: `lines` say what became of each, `in_flight` which ones are in hand.
"""
