"""One report of the runs of all folds: each image of train and val, predicted by the run that held it out."""
