"""Fit a model, keep it, ask it: forecasts and the scikit-learn face."""
