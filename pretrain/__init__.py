"""The two-stream model, its pretraining objectives and the trainer."""
