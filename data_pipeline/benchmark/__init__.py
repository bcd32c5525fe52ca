"""The command `python -m data_pipeline.benchmark`: is training starved, and by what?

`findings` is the way from top to bottom: `stages` measures the input, `step` a training step on it,
`verdict` says what to change, `chart` draws it.
"""
