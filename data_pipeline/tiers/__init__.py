"""Places in which a split is held decoded, and the choice among them.

`memory` is one array, `disk` a file that processes of a machine map, `device` a tensor on each GPU;
`gathered` is the tf.data chain of all three. `choice` says which is taken, by `free_memory`.
"""
