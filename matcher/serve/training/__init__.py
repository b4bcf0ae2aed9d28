"""Trainings of projects: what they start from, the queue, and how far they are.

Modules here may import `matcher.serve.projects`, `matcher`, and what that may import. Start reading at `jobs`.
"""
