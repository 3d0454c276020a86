"""One module a data set, each with its `DATASET`; facts only, so free of torch and numpy."""
