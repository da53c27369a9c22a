"""`bench predict`: a verified way of inference over thousands of cases, which can be killed and called again.

`predictions` is the whole of it. `source` opens what the user names, `inputs` lists the cases, `batch` has a worker run
them and starts another where that breaks; `journal`, which begins with a `header`, keeps what became of each, and
`tables` show it.
"""
