"""Load: events sent at a chosen rate, measured honestly: from the moment each was due."""
