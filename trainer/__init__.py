"""Batches to a model and its evidence."""
