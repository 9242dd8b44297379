"""The stack as plain processes on one machine: no Docker, no cluster."""
