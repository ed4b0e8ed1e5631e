"""NAS-Bench-201: all 15,625 cells of four nodes."""
