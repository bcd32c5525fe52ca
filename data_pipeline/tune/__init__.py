"""The command `python -m data_pipeline.tune`: `tuning` measures options, `search` decides which are kept."""
