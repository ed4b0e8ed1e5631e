"""The runtime of searches that train every candidate: requests, the book of trials, its ledger, and the engines."""
