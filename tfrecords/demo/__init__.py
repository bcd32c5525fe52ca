"""Demo data for a first training: `dataset` converts chest radiographs that `phantom` draws."""
