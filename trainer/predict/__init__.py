"""The command `python -m trainer.predict`: `files` are decoded as in a conversion, and classified."""
