"""The served folder: versions, who may change it, and how."""
