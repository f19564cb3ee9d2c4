"""Deployment: the wanted state of an endpoint, as a value with revisions."""
