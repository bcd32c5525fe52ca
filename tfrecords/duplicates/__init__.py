"""Images that are there more than once.

`before_split` joins or drops what is the same before the split is made, `after_split` finds what is in
two splits. `content_hashes` and `perceptual` say which images are the same and which look alike, `sets`
refuses sets that cross a border, `table` is duplicates.csv.
"""
