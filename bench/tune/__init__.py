"""A search for the fastest recipe whose accuracy is kept, which ``bench tune`` begins.

`tuning` is the job. `search` goes through recipes of the `space` on tuning `cases`, each measured as one of its
`trials` beside the fastest that is shipped; `steps` says what each change of the best one brings, and `recipe_file`
writes it down. It is then confirmed once, by an ordinary run over evaluation cases that the search has not seen.
"""
