"""The exit codes of `bench`, and what each means."""

DONE, REFUTED, BAD_INPUT, INCONCLUSIVE, BACKEND_LOST, INTERNAL_ERROR, INTERRUPTED = 0, 1, 2, 3, 4, 70, 130

MEANINGS = {
    DONE: "done, or the claim is confirmed",
    REFUTED: "the claim is refuted, or a backend regressed",
    BAD_INPUT: "bad usage or bad input",
    INCONCLUSIVE: "inconclusive; the report says what would settle it",
    BACKEND_LOST: "the baseline, or a backend of --require, was skipped or failed",
    INTERNAL_ERROR: "an error of ours; one line says where the traceback was written",
    INTERRUPTED: "interrupted; what was measured is kept",
}
