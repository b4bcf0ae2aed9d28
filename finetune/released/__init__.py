"""The files that came with ERNIE-ViL: checkpoints and lines of region features."""
