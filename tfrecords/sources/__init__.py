"""What there is to convert: images with class, group and split.

`class_folders` lists folders and `tables` a CSV or Parquet file, read by `table`; both give a `listing`.
`keys` says which names are one. `layout` tells classes from splits, `subfolders` says what may stand below
them, `clutter` what is passed over, `classes` in which order they are. `headers` are read of all files,
`groups` says which images belong together, `privacy` hides names, `positions` leads back to the file,
`rejection` counts what cannot be used, `splits` deals groups out by `folds`.
"""
