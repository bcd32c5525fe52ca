"""The command `python -m trainer.runs`: all runs below a folder in one table, or two of them compared.

`listing` is the way from a folder to the table: `finding` says which folders are runs, `reading` what each
has reached, `columns`, `text`, `runs_csv` and `page` show it. `comparing` is the way from two runs to their
differences: `paired` computes them, `difference_text` and `difference_page` show them. Nothing here imports
TensorFlow, takes a run's lock or writes into a run.
"""
