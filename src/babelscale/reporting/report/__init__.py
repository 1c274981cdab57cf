"""The analysis of a study, and reports: sections of text, tables and figures as HTML or Markdown."""
