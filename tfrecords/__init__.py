"""Offline: images to verified, sharded TFRecords, once."""
