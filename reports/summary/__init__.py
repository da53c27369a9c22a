"""A run brought into rows once: `summary` holds them, `summarise` derives them from the records, and `run_warnings`
says what a reader should know before believing the figures."""
