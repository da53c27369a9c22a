"""The verification report, for those who must file one: `document` as Markdown, `html_document` as a page to print.

What was `tested` and how, the `criteria` with what came of each, `deviations` and what may have changed, what it all
rests on (`traceability`), and where each part belongs in the `forms` that people file.
"""
