"""The shortcut audit: do whole-image numbers that carry no anatomy predict the label?

`numbers` measures each image, `reading` measures all originals of a split, `shortcut` predicts the label from
the numbers alone and says which of them do it.
"""
