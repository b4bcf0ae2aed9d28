"""The table of detector regions, and the lines in which others publish theirs."""
