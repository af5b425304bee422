"""Controls: tables that replace a signal of the LE by one without the LE's knowledge; and one with more."""
