"""From trained networks to the model that is published: averages, views, a temperature, a threshold."""
