"""Stacked cells with two inputs: what the cell spaces of DARTS, ENAS and NASNet share."""
