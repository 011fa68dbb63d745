"""Model directories from hubs, volumes and the project itself into a cache that is always whole."""
