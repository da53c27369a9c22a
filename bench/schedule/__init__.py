"""In what order samples are taken, and where they are stored.

`availability` asks which backends can run here, `memory` how many workers fit, `groups` divides the run accordingly.
`fleet` holds the open workers, `interleave` takes the samples in turns, `confirmation` repeats the winner's afresh.
`race` lets variants wait, and leave once they would change nothing, for which `scoring` holds their masks against the
truth; `standings` says how it stands.
`run_directory` is the folder of a run, `store` its records while it grows; `limits` say how much is measured,
`duration` how long that will take.
"""
