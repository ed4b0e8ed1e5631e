"""NASNet's, AmoebaNet's and PNAS' cells."""
