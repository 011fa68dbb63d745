"""One public data set a file; :mod:`pipelines.data.registry` lists them."""
