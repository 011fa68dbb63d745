"""Audio files that were made to break the decoder: intact ones, mutations of them, and bombs."""
