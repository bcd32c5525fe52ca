"""Online: TFRecord shards to batches."""
