"""Programs that measure the figures in the documentation: ``make bench`` runs them.

May import everything. Start reading at `benchmarks.turns`, which times contestants in turns.
"""
