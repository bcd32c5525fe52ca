"""The same command on many processes and machines; imports no TensorFlow and nothing of the other packages.

`local` starts processes on this machine, `worker` is what a cluster starts in each place. Both turn ranks
into TF_CONFIG by `cluster`, run what they start by `processes`, and know by `exits` what a code asks for.
"""
