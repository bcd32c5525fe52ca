"""The command `python -m tfrecords.convert`: images to shards, once.

`conversion` calls all the others in order. `options` checks what the user asks for, `balance` computes the
copies of each class, `plan` fingerprints all that the shards follow from, `shards` plans and writes them,
`engines` chooses the processes, `output` and `locks` take care of the folder, `changed` finds changed source
files, `final_files` and `quality_summary` write what describes the result, `remote` reads and writes URLs.
"""
