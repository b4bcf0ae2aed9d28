"""The front door: one command for everything. It may import all other packages, and none of them imports it.

Start with `matcher/command.py`, which names the commands.
"""
