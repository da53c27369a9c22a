"""What the device can do: `cuda` asks NVIDIA's driver, `cpu` the processor's name and instruction sets.

`known_faults` lists versions of libraries that compute 3D convolutions wrongly or very slowly.
"""
