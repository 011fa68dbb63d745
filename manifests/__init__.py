"""Kubernetes manifests: what renders and checks them."""
