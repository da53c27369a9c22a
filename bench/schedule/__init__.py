"""In what order samples are taken, and where they are stored.

`availability` asks which backends can run here, `groups` divides the run into as many workers as memory has room for.
`fleet` holds the open workers, `interleave` has them run cases in turns, whose replies become `samples`, `confirmation`
repeats the winner's afresh.
`race` lets variants wait, and leave once they would change nothing, for which `scoring` holds their masks against the
truth; `standings` says how it stands.
`run_directory` is the folder of a run, `store` its records while it grows; `limits` say how much is measured,
`duration` how long that will take.
"""
