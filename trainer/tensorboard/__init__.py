"""Files for TensorBoard: event files and the summaries of its HParams plugin; imports no TensorFlow."""
