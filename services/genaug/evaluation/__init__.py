"""Step 6: train, measure, compare, report."""
