"""What the device can: `cuda` asks NVIDIA's driver, `cpu` the processor's instruction sets."""
