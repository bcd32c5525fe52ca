"""Writing, locking and finding files: one home for what every package needs.

`atomic` writes files and folders that appear whole or not at all, `outputs` writes what an output flag
names, `locks` keeps processes apart, `cache` is the user's cache folder, `urls` tells URLs from paths and
opens them.
"""
