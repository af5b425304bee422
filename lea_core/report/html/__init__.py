"""The report as one HTML page: inline charts, no outside requests; page.py puts its sections together."""
