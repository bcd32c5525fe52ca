"""Runs one command in many processes and on many machines; imports neither TensorFlow nor the other packages.

`local` starts processes on this machine. `slurm` and `kubernetes` make batch jobs. `worker` is what each
place of a job runs. All turn ranks into TF_CONFIG with `cluster`, run children with `processes`, and decide
by `exits` what an exit code means.
"""
