"""From the index to batches: order, division, masking, padding."""
