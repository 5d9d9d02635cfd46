"""Statistics of a split, and the schema that it is held against."""
