"""What the device can do: `cuda` asks NVIDIA's driver, `cpu` the processor's name and instruction sets."""
