"""In what order samples are taken, and where they are stored.

`availability` asks which backends can run here, `memory` how many workers fit, `groups` divides the run accordingly.
`fleet` holds the open workers, `interleave` takes the samples in turns, `confirmation` repeats the winner's afresh.
`race` lets variants leave once they would change nothing, for which `scoring` holds their masks against the truth.
`run_directory` is the folder of a run, `store` its records while it grows; `limits` say how much is measured,
`duration` how long that will take.
"""
