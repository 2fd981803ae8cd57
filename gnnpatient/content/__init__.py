"""Images and texts: files to vectors."""
