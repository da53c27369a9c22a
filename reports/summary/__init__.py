"""A run brought into rows once: `summary` holds them, `summarise` derives them from the records, `answer` says what is
asked first, and `run_warnings` what must be known before believing the figures; `shard_warnings` likewise where they
are of several machines."""
