"""The hyperparameter search: each trial is an ordinary run, and a journal file coordinates the workers.

`space` is the search space, `search` the search as its folder keeps it. `order` decides when the oracle of
KerasTuner (`oracles`) is asked for a trial and when it gets a result. A `worker` runs `trials` in processes
of their own (`process`); `local` starts workers on this machine. `state` reads where a search is, `show`
presents it.
"""
