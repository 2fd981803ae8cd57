"""One file a source format; each gives tidy tables."""
