"""Generic diffusion: noise schedules, schedulers, and the denoising step."""
