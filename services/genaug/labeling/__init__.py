"""Step 3: labels of made images, and a verdict on each."""
