"""How often an epoch shows each record, if not once: --sampling.

`shares` says which share of an epoch each record is to have, by its class, its group or a file that
`weights_file` reads. `draws` turns the shares into the records of one epoch.
"""
