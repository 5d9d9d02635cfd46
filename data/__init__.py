"""The data of the pipeline: TFDS sources, codecs, preprocessing, statistics, Beam transforms."""
