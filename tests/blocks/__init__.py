"""Runs the code blocks of the pages: what they need, and commands that take seconds in place of hours."""
