"""Tensors only: node values to channels, messages along typed edges, heads. Knows no cohort."""
