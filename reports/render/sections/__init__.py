"""The parts of the markdown report, a topic a file."""
