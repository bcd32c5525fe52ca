"""Stress tests: the same model on the same images, changed as other machines and files change them.

`changes` says what is changed and by how much, as functions of an image.
"""
