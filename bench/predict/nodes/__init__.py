"""Cases on the nodes of a cluster: `spread` gives them out, after `openings` of the source there; on each node a
`predictor` gets what `transport` made of a case, which bears no name.
"""
