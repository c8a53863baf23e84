"""Step 3: label made images and judge each."""
