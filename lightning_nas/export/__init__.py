"""The trained network leaves its run: saved, loaded, exported, used on pictures."""
