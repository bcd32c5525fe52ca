"""One configuration trained with several seeds.

`children` trains the runs, each in a process of its own, `figures` says how far they differ, and `average`
makes the run whose model averages them.
"""
