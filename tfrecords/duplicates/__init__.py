"""Finds duplicate images.

Before the split, `before_split` joins or drops identical images; after it, `after_split` finds those in two
splits. `content_hashes` finds images with equal pixels and `perceptual` images that look alike; `sets`
refuses sets with two labels or in two splits; `table` writes duplicates.csv.
"""
