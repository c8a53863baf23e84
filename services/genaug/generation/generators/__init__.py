"""The kinds of generator."""
