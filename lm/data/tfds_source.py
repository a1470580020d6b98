"""Documents of a TFDS dataset."""
