"""A checkpoint file to tensors and plain values; nothing that a file holds is run.

`source` finds the file and `container` its kind; `checkpoint` is the entry; `torch_pickle` with `zip_archive` and
`mapped_file`, and `safetensors` read the tensors; `weight_sets` finds the weights among them; `metadata` and
`json_values` keep what stands beside them.
"""
