"""Batch jobs of Slurm: a script that restarts itself, its submission, and what became of it."""
