"""The tiers: where a split's records come from while training.

`tier` is the interface; `device`, `disk`, `memory` and `stream` describe one tier each; `registry` lists
them, and `choice` chooses among them. These modules import no TensorFlow. `decoding` reads a split into
memory, `decoded_file` into a file and `device_tables` into the memory of devices; `gathered` is the tf.data
chain of the tiers that hold a split. `free_memory` is what machine and cgroup have left.
"""
