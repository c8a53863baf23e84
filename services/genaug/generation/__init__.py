"""Steps 1 and 2: fine-tune generators, draw images."""
