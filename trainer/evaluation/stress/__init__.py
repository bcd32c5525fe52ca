"""Stress tests: the same model on the same images, changed as other machines and files change them.

`changes` says what is changed and by how much, `testing` predicts the changed images, `showing` makes the
picture, the table and the lines of text.
"""
