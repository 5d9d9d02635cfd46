"""What it is run on: TFDS sources, codecs, preprocessing, statistics, Beam transforms."""
