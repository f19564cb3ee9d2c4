"""Registry: the versions of a project's model, on MLflow."""
