"""One verb per file, one DVC stage each: load parameters, read artifacts, call one function, publish."""
