"""From a model's probabilities on one split to its report.

`evaluate_run` is the way from top to bottom. `predictions` are decided by a threshold, `metrics` and
`intervals` are computed from them, `figures` drawn; `report` writes it all down and `page` shows it as
HTML.
"""
