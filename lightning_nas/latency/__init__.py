"""Latency tables: reading, measuring, predicting, and the costs made from them."""
