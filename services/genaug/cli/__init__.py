"""The command line. Nouns, then verbs: `genaug run create`. JSON alone on stdout, progress on stderr."""

from genaug.cli.app import main

__all__ = ["main"]
