"""Lists the images to convert, each with its class, group and split.

`class_folders` lists folders, and `tables` a CSV or Parquet file, which `table` reads; both return a
`listing`. `keys` compares names. `layout` tells class folders from split folders, `subfolders` checks the
folders below them, `clutter` skips files of operating systems, `classes` orders the classes. `headers` reads
the headers of all files, `groups` finds which images belong together, `privacy` hides names, `positions`
finds a hidden file again, `rejection` counts unusable images, and `splits` assigns groups to splits with
`folds`.
"""
