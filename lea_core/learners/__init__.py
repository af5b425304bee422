"""One file per method: the whole update on one screen."""
