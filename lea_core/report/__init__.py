"""The report: Markdown, chart and page."""
