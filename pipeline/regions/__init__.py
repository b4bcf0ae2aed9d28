"""Published region features to the table of regions."""
