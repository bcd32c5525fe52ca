"""The command `python -m data_pipeline.benchmark`: is training input-bound, and why?

`measurement` is the command from top to bottom: `stages` measures the input alone, `step` a training step
with it, `diagnosis` says what to change, `chart` draws the figures.
"""
