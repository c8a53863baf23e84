"""Command line: nouns, then verbs (`genaug run create`). Results on stdout, progress on stderr."""

from genaug.cli.app import main

__all__ = ["main"]
