"""EAS: plain networks that grow wider and deeper."""
