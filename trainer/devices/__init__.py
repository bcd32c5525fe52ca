"""The devices of a run: `strategy` makes the `tf.distribute` strategy, `precision` the dtype policy."""
