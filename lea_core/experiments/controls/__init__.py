"""Controls: tables in the place of the LE's, which lack what the LE is said to know; and one that knows more."""
