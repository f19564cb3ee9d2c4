"""Passerelle: from a data scientist's notebook to production, and honest there.

A notebook needs two calls:

    raw = passerelle.training_data()
    passerelle.submit(model, X=X_train, features=make_features)

Everything else is the command line (``passerelle --help``). Importing this package imports nothing
heavy: the two functions import what they need when they are called.
"""

from passerelle.notebook.handover import submit, training_data

__all__ = ["submit", "training_data"]
