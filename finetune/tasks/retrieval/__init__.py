"""Image and text retrieval: the task, its captions and false pairs, the matrix of scores, ranks, and the cheap score.

Modules may import everything in finetune/ but the commands, and pretrain/, shards/ and parsers.command.
Start with task.py; the evaluation of a whole split is in score_matrix.py and ranking.py.
"""
