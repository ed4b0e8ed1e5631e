"""Where children are trained: in this process, in a process each, on other machines, or looked up in a table."""
