"""The parser that follows rules over spaCy's dependency trees."""
