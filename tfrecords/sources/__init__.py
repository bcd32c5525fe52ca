"""What there is to convert: images with class, group and split.

`class_folders` lists folders and `tables` a CSV or Parquet file; both give a `listing`. `layout` tells
classes from splits, `subfolders` says what may stand below them, `clutter` what is passed over, `classes`
in which order they are. `headers` are read of all files, `groups` says which images belong together,
`privacy` hides names, `rejection` counts what cannot be used, `splits` deals groups out by `folds`.
"""
