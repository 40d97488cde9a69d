"""The data sets of the course, as TFDS builders."""
