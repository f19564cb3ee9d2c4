"""Notebook: what the data scientist wrote, run as the training job, and the two calls it makes."""
