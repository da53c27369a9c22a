"""The tensors of a served model that runs whole cases: one contract in KServe's protocol v2, whoever serves it.

Each has a first axis of length 1, which is the batch. An image that is an empty file asks what the model is: the answer
has `ABOUT` alone.
"""

IMAGE = "image"
"""BYTES ``[1, files]``: of the channels in their order, or the only one of all: NIfTI, gzipped or not, or MetaImage."""
MASK = "mask"
"""BYTES ``[1, 1]``: a gzipped NIfTI file of labels, uint8, on the grid of the image."""
CLASS = "class"
"""INT32 ``[1, 1]``: of the case; -1 where the network has no classification."""
PROBABILITIES = "probabilities"
"""FP32 ``[1, classes]``: of each class; a single 0 where the network has no classification."""
SECONDS = "seconds"
"""FP64 ``[1, 1]``: from the files to the mask, the way over the network and in the queue left out."""
ABOUT = "about"
"""BYTES ``[1, 1]``: JSON with what predicts: ``identity``, ``source``, ``channels``, ``classes``, ``labels``."""

TYPES = {"bytes": "BYTES", "int32": "INT32", "float32": "FP32", "float64": "FP64"}
"""The protocol's names of what NumPy calls otherwise; bytes are objects there."""

OUTPUTS = (MASK, CLASS, PROBABILITIES, SECONDS, ABOUT)

BUSY = "busy"
"""With this a server's message begins that has no room in its queue; so does Triton's, in words of its own."""
