"""Pictures to detector regions."""
