"""Recipes and model sizes; a package only so that they are installed beside the code."""
