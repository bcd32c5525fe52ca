"""From trained networks to the model that is published."""
