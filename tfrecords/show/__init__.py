"""The command `python -m tfrecords.show`: a data set in words, as a `contact_sheet` and as an HTML `page`."""
