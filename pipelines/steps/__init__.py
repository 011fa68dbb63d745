"""Plain typed functions, one step a file; they know no kfp."""
