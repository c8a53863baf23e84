"""Generic training of diffusion models: data, loop, checkpoints, processes, memorization."""
