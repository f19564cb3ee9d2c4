"""Dashboard: pages for people over the state, the ledger and the registry; read-only without an admin token."""
