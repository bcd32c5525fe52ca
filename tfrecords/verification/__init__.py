"""Every byte of a converted data set checked against its manifest.

`data_set` checks the whole, `shard` one shard record by record, `sources_csv` reads the table of sources.
"""
