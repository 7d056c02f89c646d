"""`python -m cli`: the same command where nothing is installed."""

from . import main

main()
