"""DARTS' convolutional cells."""
