"""What happens after blocks of steps and epochs: history, progress, scalars, profile, checkpoints.

All are Keras callbacks. `trainer.training` makes them and `trainer.loop.Loop` calls them.
"""
