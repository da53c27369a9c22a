"""`bench predict`: a verified way of inference over thousands of cases, which can be killed and called again.

`predictions` is the whole of it, `calls` what it has in common with a prediction by a server, `labels` a mask of what
was made elsewhere. `source` opens what the user names, `inputs` lists the cases, `journal`, which begins with a
`header`, keeps what became of each, `tables` show it. `machines` are where cases run, each with a `runner`: `batch` has
a worker run them and starts another where that breaks; those in `nodes` have a cluster run them.
"""
