"""LightningDataModules for searches, and the adaptation of other data."""
