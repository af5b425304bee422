"""The LE by itself beside cheap replacements."""
