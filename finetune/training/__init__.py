"""Training on a task."""
