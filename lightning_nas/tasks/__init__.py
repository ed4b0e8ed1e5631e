"""What a network is trained for: head, loss, metrics."""
