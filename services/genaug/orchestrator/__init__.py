"""The six steps, durably."""
