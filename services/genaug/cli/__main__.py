"""`python -m genaug.cli`: how genaug starts its own subprocesses, whatever the PATH."""

from genaug.cli.app import main

main()
