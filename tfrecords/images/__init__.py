"""Bytes of one image file to uint8 [H, W, C].

`kinds` recognises the format of a file, `decode` turns it into pixels by one policy for each format, and
`dicom` holds the policy for DICOM.
"""
