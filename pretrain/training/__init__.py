"""The training loop, and what it needs: for pretraining and for fine-tuning alike. It knows nothing of captions."""
