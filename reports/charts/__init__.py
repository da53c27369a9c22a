"""A summary as charts, each in SVG with its content in words: `figure` is the frame of all.

Of several runs: `regression` against a reference, `history` of a variant.
"""
