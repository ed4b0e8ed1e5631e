"""Recurrent networks that make a space's decisions one after another, and the policies built on them."""
