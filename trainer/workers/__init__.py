"""Several processes train one model: they meet, decide together, and name a worker that is lost.

A process that was started without TF_CONFIG is a cluster of one; none of this costs it anything.
"""
