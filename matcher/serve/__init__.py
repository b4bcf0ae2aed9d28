"""The pages and the API of a matcher without code: `python -m matcher.serve`.

Modules here may import `matcher` and what it may import. What decodes pictures or computes runs in other processes:
functions of `worker`, and trainings. Start reading at `server.Server`, which holds all parts; `store` says what lies on
the disk.
"""
