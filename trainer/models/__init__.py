"""What --model names: ours, Keras' applications, functions and files of the user's."""
