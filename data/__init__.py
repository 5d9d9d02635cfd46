"""The data of the pipeline: TFDS sources, codecs, preprocessing, statistics, Beam transforms."""

import os

# Keras and TensorFlow read these when they are imported, and every module of ours imports this one
# before: in Beam's workers and in servers too. A user's keras.json (another backend, another float)
# is for the user's programs; below a device there is none.
FOR_KERAS = {
    "KERAS_BACKEND": "tensorflow",
    "KERAS_HOME": os.devnull,
    "TF_USE_LEGACY_KERAS": "0",
}
os.environ |= FOR_KERAS
