"""How weights are found: the optimizer with its learning rate, frozen layers, and averages of the weights."""
