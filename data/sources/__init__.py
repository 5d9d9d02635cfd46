"""Where images come from: data sets, spans of newer data."""
