"""What there is to convert: images with class, group and split.

`class_folders` lists folders and `tables` a CSV or Parquet file, read by `table`; both give a `listing`.
`keys` says which names are one. `headers` are read of all files, `groups` says which images belong
together, `privacy` hides names, `rejection` counts what cannot be used, `splits` deals groups out by `folds`.
"""
