"""How a table is read: `files` gives texts, `columns` their meaning, `paths` the images that they name."""
