"""How weights are found: the optimizer with its learning rate, and the averages of the weights."""
