"""The `glasshouse` command: everything an operator or an engineer does with Glasshouse without writing code.

`entry.py` knows the commands by name only; a command's file, and the rooms it uses, are imported when it runs, so that
`glasshouse --help` is instant and serving never imports what trains.
"""

from .entry import main

__all__ = ["main"]
