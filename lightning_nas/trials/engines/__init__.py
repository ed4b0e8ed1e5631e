"""Engines that train children: in this process, in a process each, on other machines, or by look-up in a table."""
