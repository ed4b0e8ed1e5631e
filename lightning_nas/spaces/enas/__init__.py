"""ENAS' macro and micro spaces of image networks."""
