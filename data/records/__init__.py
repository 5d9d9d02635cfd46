"""Records and their files."""
