"""Sources of images: data sets, spans of newer data."""
