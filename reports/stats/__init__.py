"""Statistics: pure functions of arrays, seeded, so that a run's files always give the same answer."""
