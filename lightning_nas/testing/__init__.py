"""Conformance suites: a new space, strategy or callback proves itself by subclassing one."""
