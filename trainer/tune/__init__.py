"""A search for hyperparameters: trials are ordinary runs, the journal is the coordinator.

`space` says what is searched, `search` what a search is, `order` in which order trials are asked for and
their results are given to the oracle of KerasTuner (`oracles`). `worker` runs `trials` in processes of their
own (`process`), `local` starts workers; `state` and `show` say what there is.
"""
