"""What people see of a search: the table in a terminal, the page, trials.csv, HParams in TensorBoard."""
