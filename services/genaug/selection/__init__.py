"""Step 4: embed, project, choose, match."""
