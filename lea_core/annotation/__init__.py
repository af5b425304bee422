"""The LE's signals for every training event, computed once and cached."""
