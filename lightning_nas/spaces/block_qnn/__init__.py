"""Block-QNN: one block of up to 23 layers."""
