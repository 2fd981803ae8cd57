"""Image files as grey pixels in [0, 1]: one file for each format, decoded in a guarded process."""
