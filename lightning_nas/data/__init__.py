"""LightningDataModules that give a search its four disjoint parts."""
