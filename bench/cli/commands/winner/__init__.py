"""To use what won: `export`, `verify` and `predict`, and `predict_remotely` where a server does it (``--url``)."""
