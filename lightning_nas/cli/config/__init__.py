"""The check of a composed configuration before anything is made of it."""
