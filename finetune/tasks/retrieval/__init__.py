"""Image and text retrieval: the task, its captions and false pairs, the matrix of scores, ranks, and the cheap score.

Modules here may import what other tasks may, and `finetune.tasks.checks`.
Start reading at `task`; the evaluation of a whole split is in `score_matrix` and `ranking`.
"""
