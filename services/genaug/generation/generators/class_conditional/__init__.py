"""Class-conditional diffusion from scratch, in pixels or latents."""
