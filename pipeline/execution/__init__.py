"""How a stage runs: partitions, workers, parts that are complete or absent."""
