"""Recurrent cells for language modelling: DARTS' and ENAS'."""
