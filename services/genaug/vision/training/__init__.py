"""Training of classifiers: configuration and loop."""
