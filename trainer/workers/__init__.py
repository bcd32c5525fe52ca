"""Several processes that train one model: named, met, agreed, and told when one is lost.

A process that was started without TF_CONFIG is a cluster of one, and none of this costs it anything.
"""
