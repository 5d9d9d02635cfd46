"""From a trained network, as plain arrays, to a SavedModel."""
