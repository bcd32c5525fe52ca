"""Batch jobs of Slurm: the script that restarts itself, its submission, and the state of a job."""
