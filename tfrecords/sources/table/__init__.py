"""Reads a table: `files` returns its cells as text, `columns` finds the columns, `paths` finds the files."""
