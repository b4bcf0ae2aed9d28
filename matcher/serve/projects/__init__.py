"""Projects on the disk, and as archives.

Modules here may import `matcher` and what it may import, but nothing else of `matcher.serve`. Start reading at `store`.
"""
