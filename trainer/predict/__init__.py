"""The command `python -m trainer.predict`: decodes image files as a conversion does, and classifies them."""
