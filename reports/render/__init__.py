"""Summaries to documents, a format a file; `sections` are the parts of the markdown page."""
