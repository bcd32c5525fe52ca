"""The command `python -m data_pipeline.benchmark`: does training wait for its input, and why?

`measurement` is the command from top to bottom: `stages` measures the input alone, `step` a training step
with it, `diagnosis` says what to change, `chart` draws the figures.
"""
