"""Adapters: one file or a few per vendor, loaded by name (names.ADAPTERS); no other room imports a vendor's library."""
