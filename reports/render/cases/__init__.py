"""The cases of a run, the worst first: their `rows` in words, the `images` that a page may have of them, and the
`page_section` with both."""
