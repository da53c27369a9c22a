"""A run brought into rows once: `summary` holds them, `summarise` derives them from the records, `answer` says what is
asked first, `run_warnings` what must be known before believing the figures, and `shard_warnings` of those of several machines."""
