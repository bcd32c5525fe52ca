"""Does the model lean on whole-image numbers that carry no anatomy? A section of every report.

`finding` asks what these numbers say of each image, `cells` measures the model where they agree with the
label and where they contradict it, `showing` puts that into text and HTML.
"""
