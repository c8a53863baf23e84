"""Readers of source formats; they run where the files are."""
