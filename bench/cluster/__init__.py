"""Work on the nodes of a Ray cluster, whatever it is.

`connection` joins a cluster or starts one, and keeps Ray quiet; `places` are where an actor may live; `actors` start
one at each place and pass calls and answers, to a `host` in the actor, which holds the object that is called.
`assignment` says who does what next, and what becomes of it where an actor dies; it knows nothing of Ray. `scratch` is
a folder that is deleted also where an actor is killed.
"""
