"""Bytes of one image file to uint8 [H, W, C].

`kinds` tells JPEG, PNG, BMP, WebP, TIFF and DICOM apart, `decode` turns each of them into pixels by one
policy, `dicom` is the part of it for DICOM.
"""
