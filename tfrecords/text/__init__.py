"""Names in pictures: `fonts` finds one that has their letters, `names` wraps them, or numbers them.

Pages of HTML need neither: the reader's browser has both.
"""
