"""Fit a model, save it, forecast with it: the estimator and what it is made of."""
