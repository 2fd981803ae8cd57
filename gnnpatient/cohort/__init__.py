"""Tables to packed columns, columns to graphs as known at a moment."""
