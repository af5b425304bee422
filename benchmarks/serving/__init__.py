"""What an answer of the exported policy costs, and items that it was not trained with."""
