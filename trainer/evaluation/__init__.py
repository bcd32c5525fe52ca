"""Evaluates a run: predicts a split, computes the metrics, and writes the report.

`evaluate_run` is the way from top to bottom. `metric_table` lists the metrics, `intervals` computes them, and
`report` writes report.json, predictions.csv, the pictures of `figures` and the page of `page`.
"""
