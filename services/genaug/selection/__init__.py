"""Step 4: embedding, projection, selection and matching of images."""
