"""A checkpoint file to tensors and plain values; nothing that a file holds is run.

`checkpoint` is the entry, `container` tells kinds of file apart, `safetensors`, `zip_archive`, `mapped_file` and
`torch_pickle` read each, `metadata` and `json_values` keep what stands beside the weights.
"""
