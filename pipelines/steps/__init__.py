"""Plain functions, one step of a pipeline a file."""
