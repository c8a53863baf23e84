"""`python -m genaug.cli`: starts subprocesses independently of the PATH."""

from genaug.cli.app import main

main()
