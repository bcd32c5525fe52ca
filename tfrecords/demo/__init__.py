"""Demo data for a first training: `dataset` makes them once from drawn chest radiographs (`phantom`)."""
