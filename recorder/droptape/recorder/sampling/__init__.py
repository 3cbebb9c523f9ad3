"""What is read from the kernel once a second: counters, listening sockets, settings."""
